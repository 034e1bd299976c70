"""`grow`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt


def grow(
    architecture: Annotated[
        str | None,
        opt.growth(
            "The seed's groups, such as 784,100,10. Default: input,32,classes on digits, else input,100,classes."
        ),
    ] = None,
    density: Annotated[
        float | None,
        opt.growth("Share of connections that exist in the seed. Default: 0.05 on digits, else 0.01."),
    ] = None,
    allocation: Annotated[
        str | None,
        opt.growth("proportional or uniform. Default: proportional."),
    ] = None,
    epochs: Annotated[
        int | None,
        opt.training("Length of the winning line. Default: 40 on digits, else 20."),
    ] = None,
    rounds: Annotated[int | None, opt.growth("At most so many rounds. Default: 12.")] = None,
    round_steps: Annotated[
        int | None,
        opt.growth("Steps between two rounds. Default: a 40th of the winning line, at most 100."),
    ] = None,
    heat_steps: Annotated[
        int | None,
        opt.growth("Steps of a fork over all heats. Default: those of two rounds."),
    ] = None,
    candidates: Annotated[int | None, opt.growth("Forks in the first heat. Default: 16.")] = None,
    actions: Annotated[
        str | None,
        opt.growth(
            "Growth actions offered, with commas. Default: patch, widen, insert_layer, clone, clone_vertical, highway, "
            "skip, proportional, residual_block, prune, rewire_and_patch."
        ),
    ] = None,
    trigger: Annotated[
        str | None,
        opt.growth("When to grow: interval, plateau, patience or gradient_variance. Default: interval."),
    ] = None,
    policy: Annotated[
        str | None,
        opt.growth("score, surplus, gain, random or control. Default: score."),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        opt.growth("Stop growing at this validation accuracy."),
    ] = None,
    max_parameters: Annotated[
        int | None,
        opt.growth("Bound on the final network, not on the path."),
    ] = None,
    overshoot: Annotated[
        int | None,
        opt.growth("Most parameters on the way there. Default: as many as the credits buy."),
    ] = None,
    income: Annotated[
        float | None,
        opt.growth("Credits per 1,000 steps and dense parameter. Default: 0.05."),
    ] = None,
    opening_credits: Annotated[
        float | None,
        opt.growth("Balance at the start. Default: the seed's parameters."),
    ] = None,
    refund: Annotated[
        float | None,
        opt.growth("Credits for a freed parameter. Default: 0.5."),
    ] = None,
    price: Annotated[
        float | None,
        opt.growth("Bits per thousand parameters. Default: 0.005."),
    ] = None,
    score_floor: Annotated[
        int | None,
        opt.growth("Parameters a score divides by at least. Default: 32."),
    ] = None,
    information: Annotated[
        str | None,
        opt.growth("Estimator that decides: decoder or probe. Default: decoder."),
    ] = None,
    screening: Annotated[
        str | None,
        opt.growth(
            "Who enters a round, by predicted gain or by what came of its kind: promise or thompson. Default: promise."
        ),
    ] = None,
    scales: Annotated[
        str | None,
        opt.growth(
            "Sides of the images in turn, such as 7,14,28: coarse ones first. Default: full size only."
        ),
    ] = None,
    indefinite: Annotated[
        bool | None,
        typer.Option(
            "--indefinite",
            help="Grow until --target-accuracy or --max-parameters, whatever --rounds says; then --epochs.",
            rich_help_panel=opt.GROWTH,
        ),
    ] = None,
    audits: Annotated[
        int | None,
        opt.growth("Losers of a round left running, to learn what heats undervalue. Default: 0."),
    ] = None,
    audit_factor: Annotated[
        float | None,
        opt.growth("For so many times the steps of the heats. Default: 4."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        opt.training("Constant while growing, then annealed. Default: 0.012."),
    ] = None,
    batch_size: Annotated[
        int | None,
        opt.training("Images per step. Default: a 32nd of the training images, at most 128."),
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 5e-05.")] = None,
    input_dropout: Annotated[
        float | None,
        opt.training("Share of inputs set to zero. Default: 0."),
    ] = None,
    shift: Annotated[
        int | None,
        opt.training("Augmentation: pixels each way. Default: 0."),
    ] = None,
    weight_decay: Annotated[
        float | None,
        opt.training("Share of a connection lost per step and unit of rate. Default: 0."),
    ] = None,
    rates: Annotated[
        str | None,
        opt.training(
            "While growing: none, age (what is established at a fifth) or freeze (then not at all). Default: none."
        ),
    ] = None,
    matures_after: Annotated[
        int | None,
        opt.training("Steps until a parameter is established. Default: three rounds with heats."),
    ] = None,
    freezes_after: Annotated[
        int | None,
        opt.training("Steps until a parameter is frozen. Default: 30 % of the winning line."),
    ] = None,
    minutes: Annotated[float | None, opt.training("Wall time at most.")] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="So many rng_seeds, with mean and spread. Default: 1.", rich_help_panel=opt.COMMON),
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
    """The main job: grow a sparse network by a tournament of growth actions."""
    given = dict(locals())
    from search.commands.grow import run

    run(given)
