"""Plastic residual networks: residual paths between any two places of a narrow backbone, which come and go in training.

After PlasticNet, with its flaws mended: what is grown is trained, gradients are cleared, evaluation changes nothing.
"""
