"""Studies: a question, arms with controls over several rng_seeds, and a verdict that follows from the rows."""

from search.command import Command

COMMAND = Command(
    "study",
    "A named study with its controls: what is claimed, what is measured, and whether it holds.",
    "search.commands.study.command:StudyOptions",
    "search.commands.study.run:run",
    "search.commands.study.command:dataset_of",
    goes_on=True,
)
