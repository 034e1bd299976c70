"""Experiments on networks that need no cluster: the cliff, rescue, baselines, validation."""
