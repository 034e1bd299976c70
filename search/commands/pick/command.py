"""The options of `pick`."""

from __future__ import annotations

from search.options import Options, argument, option, results_folder


class PickOptions(Options):
    """The options of `pick`."""

    name: str = argument(..., "An experiment of grow that has a front.")
    target_accuracy: float | None = option(None, "The smallest network that holds this on validation.")
    target_balanced_accuracy: float | None = option(None, "The same for the accuracy averaged over classes.")
    target_loss: float | None = option(None, "The same for a cross-entropy in nats.")
    max_parameters: int | None = option(None, "Of at most so many parameters; by itself: the best of them.")
    max_bytes: int | None = option(None, "Of at most so many bytes.")
    max_macs: int | None = option(None, "Of at most so many multiply-adds an image.")
    trial: str = option("", "Of this repetition, such as seed-0001.")
    results: str = results_folder()
