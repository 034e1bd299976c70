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

SHARE = "share in [0, 1]"


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
        typer.Option(help="Sizes of the seed's groups, such as 784,100,10.", rich_help_panel=opt.GROWTH),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="Share of connections that exist in the seed.", rich_help_panel=opt.GROWTH),
    ] = None,
    allocation: Annotated[
        str | None, typer.Option(help="proportional or uniform.", rich_help_panel=opt.GROWTH)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Length of the winning line.", rich_help_panel=opt.TRAINING)
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="At most so many rounds.", rich_help_panel=opt.GROWTH)
    ] = None,
    round_steps: Annotated[
        int | None, typer.Option(help="Steps between two rounds.", rich_help_panel=opt.GROWTH)
    ] = None,
    heat_steps: Annotated[
        int | None, typer.Option(help="Steps of a fork over all heats.", rich_help_panel=opt.GROWTH)
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Forks in the first heat.", rich_help_panel=opt.GROWTH)
    ] = None,
    actions: Annotated[
        str | None, typer.Option(help="Growth actions offered, with commas.", rich_help_panel=opt.GROWTH)
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="When a round begins: interval or plateau.", rich_help_panel=opt.GROWTH)
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="score, surplus, gain, random or control.", rich_help_panel=opt.GROWTH),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(help="Stop growing at this validation accuracy.", rich_help_panel=opt.GROWTH),
    ] = None,
    max_parameters: Annotated[
        int | None,
        typer.Option(help="Bound on the final network, not on the path.", rich_help_panel=opt.GROWTH),
    ] = None,
    income: Annotated[
        float | None,
        typer.Option(help="Credits per 1,000 steps and dense parameter.", rich_help_panel=opt.GROWTH),
    ] = None,
    opening_credits: Annotated[
        float | None, typer.Option(help="Balance at the start.", rich_help_panel=opt.GROWTH)
    ] = None,
    refund: Annotated[
        float | None, typer.Option(help="Credits for a freed parameter.", rich_help_panel=opt.GROWTH)
    ] = None,
    price: Annotated[
        float | None, typer.Option(help="Bits per thousand parameters.", rich_help_panel=opt.GROWTH)
    ] = None,
    score_floor: Annotated[
        int | None, typer.Option(help="Parameters a score divides by at least.", rich_help_panel=opt.GROWTH)
    ] = None,
    information: Annotated[
        str | None, typer.Option(help="Estimator that decides: decoder or probe.", rich_help_panel=opt.GROWTH)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Constant while growing, then annealed.", rich_help_panel=opt.TRAINING),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(rich_help_panel=opt.TRAINING)] = None,
    l1: Annotated[float | None, typer.Option(help="L1 on connections.", rich_help_panel=opt.TRAINING)] = None,
    input_dropout: Annotated[
        float | None, typer.Option(help=f"Inputs set to zero, {SHARE}.", rich_help_panel=opt.TRAINING)
    ] = None,
    shift: Annotated[
        int | None, typer.Option(help="Augmentation: pixels each way.", rich_help_panel=opt.TRAINING)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Wall time at most.", rich_help_panel=opt.TRAINING)
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="So many rng_seeds, with mean and spread.", rich_help_panel=opt.COMMON)
    ] = None,
    standardise: Annotated[
        bool | None, typer.Option("--standardise", help="Zero mean, unit spread.", rich_help_panel=opt.COMMON)
    ] = None,
    dataset: opt.Dataset = None,
    data_dir: opt.DataDir = None,
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
    sql: Annotated[str, typer.Argument(help="One SELECT over the tables experiments, rounds, candidates, …")],
    results: opt.Results = None,
) -> None:
    """SQL over the tables of the results folder, read-only."""
    from search.query import print_table, run_query

    print_table(run_query(results or "results", sql))


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
    from search.bench_links import run

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
    from search.bench_tournament import run

    run(workers=workers, dataset=dataset, data_dir=data_dir, results=results)


if __name__ == "__main__":
    main()
