"""`evolve`, on the command line."""

from __future__ import annotations

from typing import Annotated

from search import options as opt


def evolve(
    methods: Annotated[
        str | None,
        opt.of_grid(
            "Some of rigl,set,pruning,static,dense; the others are compared with the first. Default: all."
        ),
    ] = None,
    parameters: Annotated[
        str | None,
        opt.of_grid(
            "Sizes, biases included. Default: 2000,4000,8000,16000,30000; 150,300,600,1200 on digits."
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        opt.of_grid(
            "What is sparse, or is pruned. Default: input-300-100-classes; input-32-classes on digits."
        ),
    ] = None,
    rng_seeds: Annotated[int | None, opt.of_grid("So many, from --rng-seed on. Default: 5.")] = None,
    zeta: Annotated[
        float | None, opt.of_grid("Share of the connections moved at first, by rigl and set. Default: 0.3.")
    ] = None,
    interval: Annotated[
        int | None,
        opt.of_grid("Steps between changes. Default: at most 100; for pruning, 50."),
    ] = None,
    allocation: Annotated[str | None, opt.of_grid("proportional or uniform. Default: proportional.")] = None,
    limit: Annotated[int | None, opt.of_grid("Refuse more networks. Default: 1000.")] = None,
    epochs: Annotated[int | None, opt.training("Default: 20.")] = None,
    learning_rate: Annotated[
        float | None, opt.training("Annealed along a cosine. Default: 0.004; 0.01 on digits.")
    ] = None,
    batch_size: Annotated[
        int | None, opt.training("Images per step. Default: a 32nd of the training images, at most 128.")
    ] = None,
    l1: Annotated[float | None, opt.training("L1 on connections. Default: 5e-5.")] = None,
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
    """SET, RigL, pruning, static and dense networks of stated sizes: what a grown network has to beat."""
    given = dict(locals())
    from search.commands.evolve.command import run

    run(given)
