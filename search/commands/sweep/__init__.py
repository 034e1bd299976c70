"""Sweeps: any option of grow or hunt, over several rng_seeds."""

from search.command import Command

COMMAND = Command(
    "sweep",
    "Parameter sweeps over any option of grow or hunt, listed or generated, over several rng_seeds.",
    "search.commands.sweep.command:SweepOptions",
    "search.commands.sweep.run:run",
    goes_on=True,
)
