"""`structnet predict`: what a snapshot makes of a file of images or rows."""

from search.command import Command

COMMAND = Command(
    "predict",
    "What a grown network says about a file of images or rows.",
    "search.commands.predict.command:PredictOptions",
    "search.commands.predict.run:run",
)
