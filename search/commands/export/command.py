"""The options of `export`."""

from __future__ import annotations

from search.options import Options, argument, one_of, option
from structnet.data.datasets import DATASETS
from structnet.export.registry import FORMS

WITH_INTEGERS = [name for name, form in FORMS.items() if form.has_integers]


class ExportOptions(Options):
    """The options of `export`."""

    snapshot: str = argument(..., "A snapshot, with or without its ending.")
    to: str = option("", "; ".join(f"{name}: {form.help}" for name, form in FORMS.items()) + ".")
    int8: bool = option(False, f"Of whole numbers, {one_of(WITH_INTEGERS)} only: a quarter of the bytes.")
    output: str = option("export", "Folder of the files, which is made.")
    name: str = option("", "Of the files and what is in them.", shown="from the experiment")
    dataset: str | None = option(
        None,
        f"Whose test set the files are held against: {one_of(DATASETS)}, or a path.",
        shown="that of the experiment",
    )
    data_dir: str | None = option(None, "Where datasets lie.", shown="that of the experiment, or data")
    tolerance: float | None = option(
        None,
        "What logits may differ by, times 1 + the largest; with --int8 what accuracy may be lost, from 0 to 1.",
        shown="1e-5, with --int8 0.01",
        ge=0,
    )
