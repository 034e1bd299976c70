"""SET, RigL, pruning, static and dense networks of stated sizes: what a grown network has to beat."""
