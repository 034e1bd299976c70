"""The ways to a small network without a tournament, by name. A new one is a file and an entry here."""

from __future__ import annotations

from structnet.experiments.baselines import Dense, Full, Method, Pruning, Rigl, Set, Static
from structnet.experiments.cht import Cht, Chts
from structnet.experiments.granet import Granet
from structnet.experiments.set_published import SetPublished

METHODS: dict[str, type[Method]] = {
    "rigl": Rigl,
    "set": Set,
    "granet": Granet,
    "cht": Cht,
    "chts": Chts,
    "pruning": Pruning,
    "set_published": SetPublished,
    "static": Static,
    "dense": Dense,
    "full": Full,
}
