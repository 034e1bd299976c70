"""The growth actions: what each proposes for a network, and how it is applied."""

from structnet.actions.registry import ACTIONS, Action, action_of, growing, offered

__all__ = ["ACTIONS", "Action", "action_of", "growing", "offered"]
