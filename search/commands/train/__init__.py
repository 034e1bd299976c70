"""`structnet train`: one network on several workers, with Ray Train."""

from search.command import Command

COMMAND = Command(
    "train",
    "One network on several workers at once, each with its part of every batch (Ray Train).",
    "search.commands.train.command:TrainOptions",
    "search.commands.train.run:run",
    "search.commands.train.command:defaults",
    goes_on=True,
)
