"""Studies: a question, arms with controls over several rng_seeds, and a verdict that follows from the rows.

A study is one file here and one entry in `registry.STUDIES`.
"""
