"""`study`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt


def study(
    study: Annotated[str, typer.Argument(help="Its name; `list` names them all.")],
    quick: Annotated[
        bool | None,
        typer.Option("--quick", help="In minutes, with two rng_seeds: to see that it runs."),
    ] = None,
    rng_seeds: Annotated[
        int | None, opt.of_grid("How many, from --rng-seed on. Default: 5, or 2 with --quick.")
    ] = None,
    dataset: opt.Dataset = None,
    data_dir: opt.DataDir = None,
    teacher_seed: opt.TeacherSeed = None,
    results: opt.Results = None,
    name: opt.Name = None,
    resume: opt.Resume = None,
    config: opt.Config = None,
    rng_seed: opt.RngSeed = None,
    workers: opt.Workers = None,
    cpus_per_worker: opt.CpusPerWorker = None,
    address: opt.Address = None,
) -> None:
    """A named study with its controls: what is claimed, what is measured, and whether it holds."""
    given = dict(locals())
    from search.commands.study.command import print_studies, run

    if study == "list":
        print_studies()
    else:
        run(given)
