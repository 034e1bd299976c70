"""`hunt`, `ladder`, `bootstrap` and `sweep`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt


def hunt(
    architectures: Annotated[
        str | None,
        opt.of_grid(
            "Such as 'input-64-classes input-64-32-classes'. Default: 28 of them; 5 small ones on digits."
        ),
    ] = None,
    densities: Annotated[
        str | None, opt.of_grid("Default: 0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2; 0.02 and more on digits.")
    ] = None,
    rng_seeds: Annotated[
        int | None, opt.of_grid("So many, from --rng-seed on. Default: 10; 5 on digits.")
    ] = None,
    allocation: Annotated[str | None, opt.of_grid("proportional or uniform. Default: proportional.")] = None,
    limit: Annotated[int | None, opt.of_grid("Refuse a larger grid. Default: 10000.")] = None,
    cull: Annotated[
        bool | None,
        typer.Option(
            "--cull",
            help="Give up the worst at 40 and 60 % of the training (successive halving).",
            rich_help_panel=opt.GRID,
        ),
    ] = None,
    epochs: Annotated[int | None, opt.training("Default: 5; 20 on digits.")] = None,
    learning_rate: Annotated[float | None, opt.training("Annealed along a cosine. Default: 0.002.")] = None,
    batch_size: Annotated[
        int | None, opt.training("Images per step. Default: a 32nd of the training images, at most 128.")
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 0.")] = None,
    input_dropout: Annotated[float | None, opt.training("Share of inputs set to zero. Default: 0.")] = None,
    shift: Annotated[int | None, opt.training("Augmentation: pixels each way. Default: 0.")] = None,
    standardise: opt.Standardise = None,
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
    gpus_per_worker: opt.GpusPerWorker = None,
    address: opt.Address = None,
    device: opt.Device = None,
) -> None:
    """Seed hunting: train thousands of small sparse networks, and keep the ones worth growing."""
    given = dict(locals())
    from search.commands.hunt import run

    run(given)


def ladder(
    architecture: Annotated[
        str | None, opt.of_grid("Such as 784-256-10. Default: input-256-classes; 64 hidden units on digits.")
    ] = None,
    densities: Annotated[
        str | None, opt.of_grid("The rungs. Default: 0.5 … 0.0001; 0.5 … 0.01 on digits.")
    ] = None,
    rng_seeds: Annotated[int | None, opt.of_grid("So many, from --rng-seed on. Default: 5.")] = None,
    allocation: Annotated[str | None, opt.of_grid("proportional, uniform or both. Default: both.")] = None,
    limit: Annotated[int | None, opt.of_grid("Refuse a larger grid. Default: 10000.")] = None,
    epochs: Annotated[int | None, opt.training("Default: 5; 20 on digits.")] = None,
    learning_rate: Annotated[float | None, opt.training("Annealed along a cosine. Default: 0.002.")] = None,
    batch_size: Annotated[
        int | None, opt.training("Images per step. Default: a 32nd of the training images, at most 128.")
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 0.")] = None,
    input_dropout: Annotated[float | None, opt.training("Share of inputs set to zero. Default: 0.")] = None,
    shift: Annotated[int | None, opt.training("Augmentation: pixels each way. Default: 0.")] = None,
    standardise: opt.Standardise = None,
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
    gpus_per_worker: opt.GpusPerWorker = None,
    address: opt.Address = None,
    device: opt.Device = None,
) -> None:
    """The sparsity ladder: one architecture at falling densities, and the cliff where it stops to learn."""
    given = dict(locals())
    from search.commands.ladder import run

    run(given)


def bootstrap(
    architectures: Annotated[
        str | None,
        opt.of_grid(
            "Candidates, such as 'input-classes input-8-classes'. Default: 6 small ones; 5 on digits."
        ),
    ] = None,
    densities: Annotated[
        str | None, opt.of_grid("Default: 0.0005,0.001,0.002,0.005,0.01,0.02,0.05; 0.02 to 0.5 on digits.")
    ] = None,
    rng_seeds: Annotated[
        int | None, opt.of_grid("So many, from --rng-seed on; a seed must learn with all. Default: 5.")
    ] = None,
    margin: Annotated[
        float | None, opt.of_grid("Accuracy above chance that counts as learning. Default: 0.1.")
    ] = None,
    allocation: Annotated[str | None, opt.of_grid("proportional or uniform. Default: proportional.")] = None,
    limit: Annotated[int | None, opt.of_grid("Refuse a larger grid. Default: 10000.")] = None,
    larger: Annotated[
        str | None,
        opt.growth(
            "The network to start from the seed. Default: input-64-classes; input-32-classes on digits."
        ),
    ] = None,
    parameters: Annotated[
        int | None,
        opt.growth("Its size, exactly. Default: 1500, or half of all it has room for; 600 on digits."),
    ] = None,
    scales: Annotated[
        int | None,
        opt.growth("Scales of the images, each half as fine as the next; 1 for none. Default: 3 at most."),
    ] = None,
    epochs: Annotated[int | None, opt.training("Of a candidate. Default: 5; 20 on digits.")] = None,
    larger_epochs: Annotated[
        int | None, opt.training("Of the larger network. Default: 3; 20 on digits.")
    ] = None,
    scale_epochs: Annotated[int | None, opt.training("At each scale. Default: 1; 10 on digits.")] = None,
    learning_rate: Annotated[float | None, opt.training("Annealed along a cosine. Default: 0.006.")] = None,
    batch_size: Annotated[
        int | None, opt.training("Images per step. Default: a 32nd of the training images, at most 128.")
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 0.")] = None,
    input_dropout: Annotated[float | None, opt.training("Share of inputs set to zero. Default: 0.")] = None,
    shift: Annotated[int | None, opt.training("Augmentation: pixels each way. Default: 0.")] = None,
    standardise: opt.Standardise = None,
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
    gpus_per_worker: opt.GpusPerWorker = None,
    address: opt.Address = None,
    device: opt.Device = None,
) -> None:
    """The smallest seed that learns, a larger network started from it, and coarse-to-fine training."""
    given = dict(locals())
    from search.commands.bootstrap.command import run

    run(given)


def sweep(
    of: Annotated[str | None, opt.of_grid("The command to sweep: grow or hunt. Default: grow.")] = None,
    vary: Annotated[
        list[str] | None,
        opt.of_grid(
            "An option and its values, 'epochs=10,20'; with semicolons where values have commas. Once per option; "
            "every combination is tried."
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option for all trials, 'epochs=10'.", rich_help_panel=opt.GRID),
    ] = None,
    focus: Annotated[
        str | None,
        opt.of_grid(
            "A generated plan: growth, architecture, optimisation or economy. Default, without --vary: the options "
            "of all four, one at a time."
        ),
    ] = None,
    lenient: Annotated[
        str | None,
        opt.of_grid(
            "Make the thresholds of one mechanism of grow easy to meet, to see whether it fires: an action, economy "
            "or plateau."
        ),
    ] = None,
    rng_seeds: Annotated[
        int | None, opt.of_grid("So many per setting, from --rng-seed on. Default: 3.")
    ] = None,
    preview: Annotated[
        bool | None,
        typer.Option("--preview", help="Print the plan and its cost, run nothing.", rich_help_panel=opt.GRID),
    ] = None,
    limit: Annotated[int | None, opt.of_grid("Refuse a plan of more trials. Default: 200.")] = None,
    workers_each: Annotated[
        int | None,
        typer.Option(
            help="Of the workers, so many for each tournament; 0 for one without actors. Default: 1.",
            rich_help_panel=opt.RAY,
        ),
    ] = None,
    standardise: opt.Standardise = None,
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
    gpus_per_worker: opt.GpusPerWorker = None,
    address: opt.Address = None,
    device: opt.Device = None,
) -> None:
    """Parameter sweeps over any option of grow or hunt, listed or generated, over several rng_seeds."""
    # A list that is not given is empty, and must not hide the one in the config file.
    given = {option: None if value == [] else value for option, value in locals().items()}
    from search.commands.sweep.command import run

    run(given)
