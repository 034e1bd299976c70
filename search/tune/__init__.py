"""Ray Tune, as every search here uses it."""

import os

# Read by Tune when it is imported or when it runs, so set before anything here imports it: our own tables replace its
# loggers, Ctrl-C is ours to handle, and a state that is written after every trial of a short search is meant.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
