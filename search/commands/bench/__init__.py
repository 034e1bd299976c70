"""Benchmarks: ratios of two ways to do the same, measured in one run."""

from search.command import Command, Group

COMMAND = Group(
    "bench",
    "The project's own benchmarks, as ratios measured in one run.",
    (
        Command(
            "links",
            "Training on the connections that exist against dense × mask: a step, an epoch, a loop of one's own.",
            "search.commands.bench.command:LinksOptions",
            "search.commands.bench.links:run",
        ),
        Command(
            "taps",
            "Training of feature maps on the taps that exist against dense convolution × mask.",
            "search.commands.bench.command:TapsOptions",
            "search.commands.bench.taps:run",
        ),
        Command(
            "tournament",
            "What a tournament costs beside its training, and heats as cohorts against forks one by one.",
            "search.commands.bench.command:TournamentOptions",
            "search.commands.bench.tournament:run",
        ),
        Command(
            "hunt",
            "Cohorts against networks one at a time; a hunt against a Tune trial per network; what a hunt costs "
            "beside.",
            "search.commands.bench.command:HuntOptions",
            "search.commands.bench.hunt:run",
        ),
        Command(
            "heads",
            "Inference with attention heads removed against the same heads gated to 0.",
            "search.commands.bench.command:HeadsOptions",
            "search.commands.bench.heads:run",
        ),
        Command(
            "control",
            "What directing costs: the driver of a hunt without training, and how fast forks get to their workers.",
            "search.commands.bench.command:ControlOptions",
            "search.commands.bench.control:run",
        ),
        Command(
            "screen",
            "How long somebody waits for help, for a first line, and for the report of a large experiment.",
            "search.commands.bench.command:ScreenOptions",
            "search.commands.bench.screen:run",
        ),
    ),
)
