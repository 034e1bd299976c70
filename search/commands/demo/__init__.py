"""`structnet demo`: a first network, and its report."""

from search.command import Command

COMMAND = Command(
    "demo",
    "Digits in a minute: grows a first network, and writes its report.",
    "search.commands.demo.command:DemoOptions",
    "search.commands.demo.run:run",
)
