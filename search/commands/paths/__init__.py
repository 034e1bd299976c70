"""`structnet paths`: plastic residual networks against static ones and residual networks of as many parameters."""

from search.command import Command

COMMAND = Command(
    "paths",
    "Plastic residual networks: paths that come and go, against static ones and residual networks of equal size.",
    "search.commands.paths.command:PathsOptions",
    "search.commands.paths.run:run",
    goes_on=True,
)
