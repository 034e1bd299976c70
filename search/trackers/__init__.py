"""Trackers that people already use: what an experiment writes into its tables, shown there too while it runs."""
