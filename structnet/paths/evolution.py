"""One change of a network with plastic paths: some go, as many come, and the optimizer is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch.optim import Optimizer

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.modules.evaluation import Batch, evaluate_module
from structnet.modules.optimizer import add, forget
from structnet.paths.growth import GROWTHS, Growing
from structnet.paths.network import Place, PlasticNetwork
from structnet.paths.registry import VARIANTS, fresh_path
from structnet.paths.removal import REMOVALS, GradientRecord, Scored
from structnet.seeds import stream
from structnet.training.evaluation import Evaluation


@dataclass(frozen=True)
class Rules:
    """How paths come and go. removal, growth: names of REMOVALS and GROWTHS.

    frequency: steps from change to change. until: the share of training after which nothing changes any more.
    threshold: of the rule of that name. new_scalars: of paths that come; None for uniform in
    [0, 1), as the first ones have them. Raises UserError for names that are unknown and numbers out of range.
    """

    removal: str
    growth: str
    frequency: int
    until: float
    threshold: float
    new_scalars: float | None
    rng_seed: int

    def __post_init__(self) -> None:
        for kind, name, known in (("removal", self.removal, REMOVALS), ("growth", self.growth, GROWTHS)):
            if name not in known:
                raise UserError(f"{kind} is '{name}', but must be one of {', '.join(known)}")
        if self.frequency < 1:
            raise UserError(
                f"frequency is {self.frequency}, but must be at least 1: it is in steps from change to change"
            )
        if not 0 < self.until <= 1:
            raise UserError(
                f"until is {self.until:g}, but must be in (0, 1]: it is the share of training with changes"
            )
        if not self.threshold > 0:
            raise UserError(
                f"threshold is {self.threshold:g}, but must be above 0: paths of a smaller scalar go"
            )
        if self.new_scalars == 0:
            raise UserError("new_scalars is 0, but then the weights of a path have no gradient: take 0.1")

    def are_due(self, step: int, steps: int) -> bool:
        """Whether a change follows this step of so many; never the last, as what came would not be trained."""
        return step % self.frequency == 0 and step <= self.until * steps and step < steps


@dataclass
class History:
    """What rules look back at. emptied: place -> the step at which the last path there went. record: since then."""

    emptied: dict[Place, int] = field(default_factory=dict)
    record: GradientRecord = field(default_factory=GradientRecord)


@dataclass(frozen=True)
class Decision:
    """A path that went or came. value: what it was chosen by, None where that was chance.

    found, without: of the network on validation data before the change, and of it without this one path; None for one
    that came.
    """

    place: Place
    method: str
    value: float | None
    found: Evaluation | None = None
    without: Evaluation | None = None

    @property
    def is_removal(self) -> bool:
        """Or it came."""
        return self.found is not None


def change(
    network: PlasticNetwork,
    optimizer: Optimizer,
    rules: Rules,
    history: History,
    step: int,
    batches: Iterable[Batch],
    validation: Split,
) -> list[Decision]:
    """Takes paths out and puts as many in elsewhere, after so many steps; what was decided, in this order.

    No path comes where one has just gone, so no more go than there are free places. What survives keeps its values and
    its moments to the bit. batches: of training images, for rules of growth that ask for them. history is renewed.
    """
    leaving = _leaving(network, rules, history)
    decisions = judged(network, leaving, rules.removal, validation)
    free = [place for place in VARIANTS[network.plan.variant].places if place not in set(network.places)]
    for place, _ in leaving:
        forget(optimizer, network.detach(place).parameters())
    growing = Growing(
        VARIANTS[network.plan.variant].eligible(free, history.emptied, len(leaving)),
        len(leaving),
        lambda place: fresh_path(network, place, 0.0, rules.rng_seed, step),
        batches,
        stream(rules.rng_seed, "paths growth", step),
    )
    decisions += _grow(network, optimizer, rules, history, growing)
    history.emptied |= {place: step for place, _ in leaving}
    history.record = GradientRecord()
    return decisions


def judged(network: PlasticNetwork, leaving: Scored, method: str, validation: Split) -> list[Decision]:
    """Of each path that is to go what the network is worth with it, and with it alone cut; it stays as it is."""
    if not leaving:
        return []
    found = evaluate_module(network, validation)
    decisions = []
    for place, value in leaving:
        with network.without(place):
            decisions.append(Decision(place, method, value, found, evaluate_module(network, validation)))
    return decisions


def _leaving(network: PlasticNetwork, rules: Rules, history: History) -> Scored:
    gradients = history.record.means(network)
    found = REMOVALS[rules.removal].choose(network.scalars, gradients, rules.threshold)
    room = len(VARIANTS[network.plan.variant].places) - len(network.places)
    return found[:room]


def _grow(
    network: PlasticNetwork, optimizer: Optimizer, rules: Rules, history: History, growing: Growing
) -> list[Decision]:
    """Puts paths into free places, and tells the optimizer."""
    grown = GROWTHS[rules.growth](network, growing)
    for place, _, path in grown:
        path.scalar.data.fill_(growing.rng.random() if rules.new_scalars is None else rules.new_scalars)
        network.attach(place, path)
        history.emptied.pop(place, None)
        add(optimizer, path.parameters())
    return [Decision(place, rules.growth, value) for place, value, _ in grown]
