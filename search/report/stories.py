"""Which function tells the story of a command's experiment: `module:name`, imported when a report is written.

It is given Records and returns a Story. A command without an entry has a page of what every experiment has.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from search.report.blocks import Story
from search.report.records import Records

STORIES: dict[str, str] = {
    name: f"search.commands.{room}.story:story"
    for name, room in {
        "grow": "grow",
        "hunt": "hunt",
        "ladder": "ladder",
        "rescue": "rescue",
        "bootstrap": "bootstrap",
        "sweep": "sweep",
        "evolve": "evolve",
        "topology": "topology",
        "paths": "paths",
        "heads": "heads",
        "train": "train",
        "study": "study",
    }.items()
}


def story_of(records: Records) -> Story:
    """The story of an experiment."""
    place = STORIES.get(records.command)
    if place is None:
        return Story(lead="")
    module, _, name = place.partition(":")
    tell: Callable[[Records], Story] = getattr(import_module(module), name)
    return tell(records)
