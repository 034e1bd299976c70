"""The ways to a small network without a tournament, by name. A new one is a file and an entry here."""

from __future__ import annotations

from structnet.experiments.baselines import Dense, Method, Pruning, Rigl, Set, Static
from structnet.experiments.cht import Cht, Chts
from structnet.experiments.granet import Granet

METHODS: dict[str, type[Method]] = {
    "rigl": Rigl,
    "set": Set,
    "granet": Granet,
    "cht": Cht,
    "chts": Chts,
    "pruning": Pruning,
    "static": Static,
    "dense": Dense,
}
