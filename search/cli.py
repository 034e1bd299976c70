"""The command `structnet`: one function of search.commands for each name."""

from __future__ import annotations

import sys

import typer

from search.signatures import benches, checks, growing, queueing, results, rivals, searches, studies, training
from structnet.errors import UserError, WorkFailed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Finds the smallest neural network that does the job, by growing it.",
)
bench = typer.Typer(no_args_is_help=True, help="The project's own benchmarks, as ratios measured in one run.")
queue = typer.Typer(
    no_args_is_help=True, help="Experiments by priority, run one after the other or side by side."
)

for command in (
    growing.grow,
    checks.validate,
    searches.hunt,
    searches.ladder,
    checks.rescue,
    searches.bootstrap,
    searches.sweep,
    rivals.evolve,
    training.train,
    studies.study,
    results.predict,
    results.query,
    results.status,
):
    app.command()(command)

app.add_typer(bench, name="bench")
for name, benchmark in (
    ("links", benches.bench_links),
    ("tournament", benches.bench_tournament),
    ("hunt", benches.bench_hunt),
    ("control", benches.bench_control),
):
    bench.command(name)(benchmark)

app.add_typer(queue, name="queue")
# What follows the first word of the command to be added is its own, with or without a `--` before it.
queue.command("add", context_settings={"allow_interspersed_args": False})(queueing.add)
for name, action in (
    ("list", queueing.list_entries),
    ("run", queueing.run),
    ("cancel", queueing.cancel),
    ("retry", queueing.retry),
    ("pause", queueing.pause),
    ("resume", queueing.resume),
):
    queue.command(name)(action)


def main() -> None:
    """Runs a command; a mistake of the user is one line on stderr and exit code 2, work that failed code 1."""
    try:
        app()
    except (UserError, WorkFailed) as error:
        typer.echo(f"structnet: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)


if __name__ == "__main__":
    main()
