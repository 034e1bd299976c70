"""The growth actions by name: a new one is a file of this folder and a line in ACTIONS.

What a command line has to know of an action is in its line, so that defaults and help cost no import of torch; the
functions are in the file, which is imported when one of them is first called.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol, cast

if TYPE_CHECKING:
    from structnet.actions.base import Context, Proposal
    from structnet.network.edit import Edit
    from structnet.network.network import StructNet

Role = Literal["growth", "pruning", "reshaping", "control"]


class _Functions(Protocol):
    """What the file of an action defines; beside these, where it has one, `random_twin`."""

    def propose(self, context: Context) -> list[Proposal]: ...

    def apply(self, network: StructNet, proposal: Proposal) -> Edit: ...


class _RandomTwin(Protocol):
    def __call__(self, context: Context, proposal: Proposal) -> Proposal: ...


@dataclass(frozen=True)
class Action:
    """A growth action.

    role: `growth` adds parameters, `pruning` frees them and `reshaping` adds none, which all compete in a tournament; a
    `control` adds none either, and is what they are measured against. preserves_output: whether the network computes
    the same at the moment the action is applied. module: where its functions are, a file of this folder if empty.
    least_steps: a tournament offers it by default where forks train for so many steps, as sooner it cannot be judged.
    """

    name: str
    role: Role = "growth"
    preserves_output: bool = True
    module: str = ""
    least_steps: int = 0

    def propose(self, context: Context) -> list[Proposal]:
        """All changes of a diagnosed network that this action would make; for a control, the one to run first."""
        return self._functions().propose(context)

    def apply(self, network: StructNet, proposal: Proposal) -> Edit:
        """The network with one of its proposals applied, or with the twin of one."""
        return self._functions().apply(network, proposal)

    def twin(self, context: Context, proposal: Proposal) -> Proposal | None:
        """The random-placement control of a proposal, named `NAME:random`; None for an action that has none."""
        random_twin = cast("_RandomTwin | None", getattr(self._functions(), "random_twin", None))
        return random_twin(context, proposal) if random_twin else None

    def _functions(self) -> _Functions:
        return cast("_Functions", import_module(self.module or f"structnet.actions.{self.name}"))


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("patch"),
        Action("widen"),
        Action("insert_layer"),
        Action("clone"),
        Action("clone_vertical"),
        Action("restart"),
        Action("highway"),
        Action("skip"),
        Action("proportional"),
        Action("residual_block"),
        Action("prune", role="pruning", preserves_output=False),
        Action("rewire", role="control", preserves_output=False),
        Action("rewire_and_patch", preserves_output=False),
        Action("halve", role="reshaping", preserves_output=False, least_steps=300),
    )
}


def action_of(proposal: str) -> Action:
    """The action that applies proposals of this name; that of a twin has the name of its action before a colon."""
    return ACTIONS[proposal.partition(":")[0]]


def offered(heat_steps: int = 0) -> tuple[str, ...]:
    """The names of all actions that compete in a tournament by default; heat_steps: those of a fork."""
    return tuple(
        name
        for name, action in ACTIONS.items()
        if action.role != "control" and action.least_steps <= heat_steps
    )


def growing() -> tuple[str, ...]:
    """The names of all actions that add parameters."""
    return tuple(name for name, action in ACTIONS.items() if action.role == "growth")
