"""The network itself: who is connected to whom, its values, its edits, its state in training."""
