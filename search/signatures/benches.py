"""`bench …`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt


def bench_links(
    repeats: Annotated[int, typer.Option(help="Timed repeats of each case.")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
    rule: Annotated[bool, typer.Option("--rule", help="Measure what the kernel rule rests on.")] = False,
) -> None:
    """A whole training step: sparse links against dense × mask."""
    from search.commands.bench.links import run

    run(repeats=repeats, device=device, results=results, rule=rule)


def bench_tournament(
    case: Annotated[str | None, typer.Option(help="overhead or heats. Default: both.")] = None,
    workers: Annotated[int, typer.Option(help="Ray workers.")] = 2,
    data_dir: opt.DataDir = None,
    dataset: Annotated[str, typer.Option(help="mnist, or any other dataset.")] = "mnist",
    repeats: Annotated[
        int | None, typer.Option(help="Timed pairs of tournaments of heats. Default: 3.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
) -> None:
    """What a tournament costs beside its training, and heats as cohorts against forks one by one."""
    from search.commands.bench.tournament import run

    run(
        case=case,
        workers=workers,
        dataset=dataset,
        data_dir=data_dir,
        repeats=repeats,
        results=results,
    )


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
    from search.commands.bench.hunt import run

    run(case=case, dataset=dataset, data_dir=data_dir, repeats=repeats, minutes=minutes, results=results)


def bench_control(
    case: Annotated[str | None, typer.Option(help="hunt or round. Default: both.")] = None,
    networks: Annotated[
        int | None, typer.Option(help="Networks of the hunt, at least. Default: 100,000.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option(help="Seconds that a block of the hunt sleeps. Default: 0.5.")
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="Candidates of the round. Default: 1,000.")] = None,
    workers: Annotated[int, typer.Option(help="Ray workers; most of the time they sleep.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes of seconds, for a look.")] = False,
    results: Annotated[
        str | None, typer.Option(help="Also write rows to the benchmarks table there.")
    ] = None,
) -> None:
    """What directing costs: the driver of a hunt without training, and how fast forks get to their workers."""
    from search.commands.bench.control import run

    run(
        case=case,
        networks=networks,
        delay=delay,
        candidates=candidates,
        workers=workers,
        quick=quick,
        results=results,
    )
