"""The benchmarks and their options."""

from __future__ import annotations

from search.options import Options, data_dir, option

WRITTEN = "Also write rows to the benchmarks table there."
ANY_DATASET = "mnist, or any other dataset."


class LinksOptions(Options):
    """The options of `bench links`."""

    case: str | None = option(None, "step, epoch, module or set.", shown="step, then module")
    data_dir: str | None = data_dir()
    repeats: int = option(7, "Timed repeats of each case but epoch.")
    device: str = option("cpu", "cpu or cuda.")
    results: str | None = option(None, WRITTEN)
    rule: bool = option(False, "Measure what the rule for dense links rests on.")


class TapsOptions(Options):
    """The options of `bench taps`."""

    repeats: int = option(7, "Timed pairs of each size and density.")
    results: str | None = option(None, WRITTEN)


class TournamentOptions(Options):
    """The options of `bench tournament`."""

    case: str | None = option(None, "overhead, heats or shares.", shown="all")
    workers: int = option(2, "Ray workers.")
    data_dir: str | None = data_dir()
    dataset: str = option("mnist", ANY_DATASET)
    repeats: int | None = option(None, "Timed pairs of tournaments of heats.", shown="3")
    results: str | None = option(None, WRITTEN)


class HuntOptions(Options):
    """The options of `bench hunt`."""

    case: str | None = option(None, "cohort, tune or overhead.", shown="cohort, then tune")
    data_dir: str | None = data_dir()
    dataset: str = option("mnist", ANY_DATASET)
    repeats: int | None = option(None, "Timed pairs.", shown="7 of a cohort, 1 of whole hunts")
    minutes: float = option(10.0, "About how long the hunt of overhead takes.")
    results: str | None = option(None, WRITTEN)


class HeadsOptions(Options):
    """The options of `bench heads`."""

    repeats: int = option(7, "Timed pairs.")
    results: str | None = option(None, WRITTEN)


class ControlOptions(Options):
    """The options of `bench control`."""

    case: str | None = option(None, "hunt or round.", shown="both")
    networks: int | None = option(None, "Networks of the hunt, at least.", shown="100,000")
    delay: float | None = option(None, "Seconds that a block of the hunt sleeps.", shown="0.5")
    candidates: int | None = option(None, "Candidates of the round.", shown="1,000")
    workers: int = option(4, "Ray workers; most of the time they sleep.")
    quick: bool = option(False, "Sizes of seconds, for a look.")
    results: str | None = option(None, WRITTEN)


class ScreenOptions(Options):
    """The options of `bench screen`."""

    rounds: int = option(50, "Of the growth that the report is of.")
    forks: int = option(200, "Of each of its rounds.")
    repeats: int = option(7, "Timed starts of each command.")
    results: str | None = option(None, WRITTEN)
