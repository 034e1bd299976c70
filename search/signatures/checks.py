"""`validate` and `rescue`, on the command line."""

from __future__ import annotations

from typing import Annotated

from search import options as opt


def validate(
    architecture: Annotated[
        str | None,
        opt.growth(
            "The base network's groups, such as 784,100,10. Default: input,32,classes on digits, else "
            "input,100,classes."
        ),
    ] = None,
    density: Annotated[
        float | None,
        opt.growth("Share of connections that exist in it. Default: 0.05 on digits, else 0.01."),
    ] = None,
    allocation: Annotated[
        str | None,
        opt.growth("proportional or uniform. Default: proportional."),
    ] = None,
    epochs: Annotated[
        int | None,
        opt.training("Length of each short training. Default: 10 on digits, else 3."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        opt.training("Annealed; the dense version also tries a quarter of it. Default: 0.012."),
    ] = None,
    batch_size: Annotated[
        int | None,
        opt.training("Images per step. Default: a 32nd of the training images, at most 128."),
    ] = None,
    margin: Annotated[
        float | None,
        opt.training("Part of the way from chance to 100 % that counts as learning. Default: 0.1."),
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
    """The base network and its data, checked before an experiment; exit code 1 if a check fails. Needs no Ray."""
    given = dict(locals())
    from search.commands.validate import run

    run(given)


def rescue(
    mechanism: Annotated[
        str | None,
        opt.growth(
            "The growth action that is tested: patch, widen, insert_layer, clone, clone_vertical, highway, skip, "
            "proportional, residual_block or rewire_and_patch. Default: patch."
        ),
    ] = None,
    architecture: Annotated[
        str | None, opt.growth("Such as 784-256-10. Default: input-256-classes; 64 hidden units on digits.")
    ] = None,
    density: Annotated[
        float | None,
        opt.growth("Of the start, below the cliff that ladder finds. Default: 0.001; 0.02 on digits."),
    ] = None,
    allocation: Annotated[str | None, opt.growth("proportional or uniform. Default: proportional.")] = None,
    budget: Annotated[
        int | None, opt.growth("Parameters to add. Default: as many as the start has connections.")
    ] = None,
    growths: Annotated[
        int | None, opt.growth("Over so many moments in the first half of the training. Default: 5.")
    ] = None,
    plateau: Annotated[
        float | None,
        opt.growth("Accuracy of networks that are dense enough. Default: measured at density 0.5, 0.2, 0.1."),
    ] = None,
    rng_seeds: Annotated[int | None, opt.of_grid("So many, from --rng-seed on. Default: 5.")] = None,
    limit: Annotated[
        int | None, opt.of_grid("Refuse to train more networks for the plateau. Default: 10000.")
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
    """The cliff-rescue test: can a growth mechanism bring back a network that is too sparse to learn?"""
    given = dict(locals())
    from search.commands.rescue.command import run

    run(given)
