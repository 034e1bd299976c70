"""The options of `predict`."""

from __future__ import annotations

from search.options import Options, argument, option


class PredictOptions(Options):
    """The options of `predict`."""

    snapshot: str = argument(..., "A snapshot, with or without its ending.")
    inputs: str = argument(..., "A Parquet or CSV file, an image, or a folder of images.")
    output: str | None = option(None, "Write a .csv or .parquet file instead of a table.")
    key: str | None = option(None, "A column that names the rows, to be kept beside the predictions.")
    probabilities: bool = option(False, "The probability of every class, too.")
