"""`train`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt


def train(
    snapshot: Annotated[
        str | None,
        typer.Option(
            help="A grown network to train on, such as results/snapshots/NAME/round-0009; its optimizer starts anew.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        opt.training(
            "Its groups, such as 784,100,10. Default: input,32,classes on digits, else input,100,classes."
        ),
    ] = None,
    density: Annotated[
        float | None,
        opt.training("Share of connections that exist. Default: 0.05 on digits, else 0.01."),
    ] = None,
    allocation: Annotated[str | None, opt.training("proportional or uniform. Default: proportional.")] = None,
    epochs: Annotated[int | None, opt.training("Default: 40 on digits, else 20.")] = None,
    learning_rate: Annotated[float | None, opt.training("Annealed along a cosine. Default: 0.006.")] = None,
    batch_size: Annotated[
        int | None,
        opt.training(
            "Images per step, over all workers together. Default: a 32nd of the training images, at most 128, rounded "
            "up to a multiple of the workers."
        ),
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 5e-5.")] = None,
    input_dropout: Annotated[float | None, opt.training("Share of inputs set to zero. Default: 0.")] = None,
    shift: Annotated[int | None, opt.training("Augmentation: pixels each way. Default: 0.")] = None,
    weight_decay: Annotated[
        float | None, opt.training("Share of a connection lost per step and unit of rate. Default: 0.")
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
    """One network on several workers at once, each with its part of every batch (Ray Train)."""
    given = dict(locals())
    from search.commands.train.command import run

    run(given)
