"""`structnet train`: one network on several workers, with Ray Train."""
