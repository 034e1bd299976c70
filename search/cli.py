"""The command `structnet`. Only names and help live here: a command's code is imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from search import options as opt
from structnet.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Finds the smallest neural network that does the job, by growing it.",
)
bench_app = typer.Typer(
    no_args_is_help=True, help="The project's own benchmarks, as ratios measured in one run."
)
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Runs a command; a mistake of the user is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"structnet: {error}", err=True)
        sys.exit(2)


@app.command()
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
        opt.growth("Growth actions offered, with commas. Default: all."),
    ] = None,
    trigger: Annotated[
        str | None,
        opt.growth("When a round begins: interval or plateau. Default: interval."),
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
    from search.grow import run

    run(given)


@app.command()
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
    from search.validate import run

    run(given)


@app.command()
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
    from search.hunt import run

    run(given)


@app.command()
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
    from search.ladder import run

    run(given)


@app.command()
def rescue(
    mechanism: Annotated[
        str | None,
        opt.growth(
            "patch, widen, insert_layer, clone or rewire_and_patch: the growth action that is tested. Default: patch."
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
    from search.rescue.command import run

    run(given)


@app.command()
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
    from search.bootstrap.command import run

    run(given)


@app.command()
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
    from search.sweep.command import run

    run(given)


@app.command()
def predict(
    snapshot: Annotated[str, typer.Argument(help="A snapshot, with or without its ending.")],
    inputs: Annotated[str, typer.Argument(help="A Parquet or CSV file, an image, or a folder of images.")],
    output: Annotated[str | None, typer.Option(help="Write a Parquet file instead of a table.")] = None,
) -> None:
    """What a grown network says about a file of images or rows."""
    from search.predict import predict as predicted
    from search.predict import print_predictions, write_predictions

    table = predicted(snapshot, inputs)
    if output:
        write_predictions(table, output)
    else:
        print_predictions(table)


@app.command()
def query(
    sql: Annotated[
        str | None, typer.Argument(help="One SELECT over the tables experiments, rounds, candidates, …")
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="First merge the many small files of experiments that have ended."),
    ] = False,
    results: opt.Results = None,
) -> None:
    """SQL over the tables of the results folder, read-only."""
    if sql is None and not compact:
        raise UserError("there is no statement, but must be one SELECT in quotes, or --compact: give one")
    from search.query import print_compaction, print_query

    if compact:
        print_compaction(results or "results")
    if sql is not None:
        print_query(results or "results", sql)


@bench_app.command("links")
def bench_links(
    repeats: Annotated[int, typer.Option(help="Timed repeats of each case.")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
    rule: Annotated[bool, typer.Option("--rule", help="Measure what the kernel rule rests on.")] = False,
) -> None:
    """A whole training step: sparse links against dense × mask."""
    from search.bench.links import run

    run(repeats=repeats, device=device, results=results, rule=rule)


@bench_app.command("tournament")
def bench_tournament(
    workers: Annotated[int, typer.Option(help="Ray workers.")] = 2,
    data_dir: opt.DataDir = None,
    dataset: Annotated[str, typer.Option(help="mnist, or any other dataset.")] = "mnist",
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
) -> None:
    """What a heat costs beside its training, and a fork to a worker and back."""
    from search.bench.tournament import run

    run(workers=workers, dataset=dataset, data_dir=data_dir, results=results)


@bench_app.command("hunt")
def bench_hunt(
    case: Annotated[
        str | None, typer.Option(help="cohort, tune or overhead. Default: cohort, then tune.")
    ] = None,
    data_dir: opt.DataDir = None,
    dataset: Annotated[str, typer.Option(help="mnist, or any other dataset.")] = "mnist",
    repeats: Annotated[
        int | None, typer.Option(help="Timed pairs. Default: 7 of a cohort, 1 of whole hunts.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="About how long the hunt of overhead takes.")] = 10.0,
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
) -> None:
    """Cohorts against networks one at a time; a hunt against a Tune trial per network; what a hunt costs beside."""
    from search.bench.hunt import run

    run(case=case, dataset=dataset, data_dir=data_dir, repeats=repeats, minutes=minutes, results=results)


if __name__ == "__main__":
    main()
