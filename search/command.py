"""A command before it is called: its name, what it is for, and where its options and its function are.

Lists of commands, and a shell that completes a name, need no more, so they come at once; the rest is imported when a
command is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.options import Options


@dataclass(frozen=True)
class Command:
    """A command of `structnet`.

    options: the model of its options. function: what does it, given the checked options. defaults: a function that
    gives those that go with what is told, for a command that has others than its dataset's, or that checks what is
    given. All three as `module:name`. goes_on: whether `--resume` goes on where it was stopped, so that a queue may
    stop it. settings: of the parser, Click's.
    """

    name: str
    help: str
    options: str
    function: str
    defaults: str = ""
    goes_on: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> type[Options]:
        """The model of its options."""
        model: type[Options] = _found(self.options)
        return model

    def run(self, given: Mapping[str, Any]) -> None:
        """Does it. given: option -> value, None where not given. Raises UserError for what it cannot be told."""
        options = self.parse(given)
        _found(self.function)(options)

    def parse(self, given: Mapping[str, Any]) -> Any:
        """The checked options, in its model; raises UserError for an unknown name or a wrong value, naming it."""
        from search.options import checked, read_config

        file = given.get("config")
        written = read_config(file) if file else {}
        line = {name: value for name, value in given.items() if value not in (None, []) and name != "config"}
        told = {**written, **line}
        return checked(self.model, {**self._defaults(told), **told}, file)

    def _defaults(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        from search.options import CommonOptions
        from structnet.data.datasets import defaults_of

        if self.defaults:
            given: Mapping[str, Any] = _found(self.defaults)(told)
            return given
        if not issubclass(self.model, CommonOptions):
            return {}
        dataset = told.get("dataset", self.model.model_fields["dataset"].default)
        return defaults_of(str(dataset), self.name)


@dataclass(frozen=True)
class Group:
    """Commands under one word, such as `structnet queue add`."""

    name: str
    help: str
    commands: tuple[Command, ...]


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
