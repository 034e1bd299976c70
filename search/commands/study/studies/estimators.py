"""Does a short heat tell which fork is worth most in the end, and which estimator of information tells it best?

Of every network, forks by all actions and at several sizes, with random twins of the best, are trained at the rate
of the heats and then annealed. What they gained after 50, 200 and 800 steps is compared with what they gain at the
end. Nothing is read from the images that it was chosen by: what one half of the validation images says of a heat is
held against what the other half says of the end, both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from search.commands.study.comparison import leads_over, means_of, values_of
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Axis, Chart
from structnet.actions import ACTIONS, action_of, offered
from structnet.actions.base import Context, Proposal
from structnet.data.dataset import Dataset
from structnet.measure.diagnosis import diagnose
from structnet.measure.statistics import rank_correlation, shown_with_spread
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import diagnosis_sample
from structnet.training.recipe import L1, Recipe
from tournament.audits import Audit, Maturity, learn
from tournament.rules.score import gain_over, score
from tournament.rules.screening import by_turns
from tournament.workers.fork import Arrays, train_line
from tournament.workers.fork_cohorts import ForkResult, run_forks

HEATS = (50, 200, 800)
ESTIMATORS = ("decoder", "probe")
DEFAULT = "decoder 200"
END = "end"
CANDIDATES, TWINS = 44, 4
ANNEALED_IN = 10  # stretches of one rate each
SIZE_SHARES = (1 / 8, 1 / 4, 1 / 2)
SCORE_FLOOR = 32
PROVEN = 2.0  # standard errors
ENOUGH, TOLERATED = 0.8, 0.2


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    small = has_few_inputs(data)
    return tasks_of(
        {"forks": {}},
        scale,
        architecture=[data.input_units, 32 if small else 100, data.classes],
        density=0.05 if small else 0.01,
        batch_size=batch_size_for(data),
        line_steps=100 if small else 300,
        steps=1200 if scale.quick else 3000,
        learning_rate=0.012,
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """Of every fork, by its number: its action, its parameters, and its gains after every heat and at the end."""
    options = task.options
    recipe = Recipe(options["batch_size"], l1=L1, rng_seed=task.rng_seed)
    seed = StructNet(options["architecture"], options["density"], rng_seed=task.rng_seed, ensure_paths=True)
    start = TrainState.fresh(seed).to_arrays()
    rate, steps = options["learning_rate"], options["line_steps"]
    _, _, line = train_line(start, data.train, data.validation, recipe, steps, rate, False)
    controls, forks = proposals_of(line, data, recipe, rate)
    found = [
        measured
        for number, proposal in enumerate(forks)
        for measured in (
            Measurement(f"action:{proposal.action}", 1.0, number),
            Measurement("parameters_added", proposal.parameters_added, number),
        )
    ]
    entering = [*controls, *forks]
    for name, bits in _trained(line, entering, data, recipe, rate, options["steps"]):
        found += _gains(name, bits, len(controls))
    return found


def proposals_of(
    line: Arrays, data: Dataset, recipe: Recipe, rate: float
) -> tuple[list[Proposal | None], list[Proposal]]:
    """The controls; and the forks: by turns the best of every action and size, then random twins of the best."""
    state = TrainState.from_arrays(line)
    sample = diagnosis_sample(data.train, recipe.rng_seed, state.step)
    diagnosis = diagnose(state.network, sample.images, sample.labels)
    sizes = tuple(max(SCORE_FLOOR, round(share * state.network.parameter_count)) for share in SIZE_SHARES)
    context = Context(state, diagnosis, sizes, rate, stream(recipe.rng_seed, "estimators"))
    proposed = [proposal for name in offered() for proposal in ACTIONS[name].propose(context)]
    forks = by_turns(proposed, sizes)[:CANDIDATES]
    twins = (action_of(proposal.action).twin(context, proposal) for proposal in forks)
    placed_at_random = list(islice((twin for twin in twins if twin is not None), TWINS))
    controls = [action.propose(context)[:1] for action in ACTIONS.values() if action.role == "control"]
    return [None, *chain.from_iterable(controls)], [*forks, *placed_at_random]


def _trained(
    line: Arrays,
    proposals: Sequence[Proposal | None],
    data: Dataset,
    recipe: Recipe,
    rate: float,
    steps: int,
) -> list[tuple[str, list[np.ndarray | None]]]:
    """Bits of every fork: (validation images,), by estimator and heat, and at the end; None where it failed."""
    found: list[tuple[str, list[np.ndarray | None]]] = []
    forks: list[tuple[Arrays, Proposal | None] | None] = [(line, proposal) for proposal in proposals]

    def train_on(length: int, at: float, with_probe: bool) -> list[ForkResult | None]:
        places = [place for place, fork in enumerate(forks) if fork is not None]
        alive = [fork for fork in forks if fork is not None]
        results: list[ForkResult | None] = [None] * len(forks)
        ended = run_forks(alive, data.train, data.validation, recipe, length, at, with_probe)
        for place, (report, state) in zip(places, ended, strict=True):
            results[place] = report, state
            forks[place] = None if state is None else (state, None)
        return results

    done = 0
    for heat in HEATS:
        results = train_on(heat - done, rate, True)
        done = heat
        found.append((f"decoder {heat}", [_bits(result) for result in results]))
        found.append((f"probe {heat}", [_bits(result, probe=True) for result in results]))
    for length, at in stretches(steps - done, rate):
        results = train_on(length, at, False)
    return [*found, (END, [_bits(result) for result in results])]


def stretches(steps: int, rate: float) -> list[tuple[int, float]]:
    """(steps, rate) that add up to so many steps and follow half a cosine from this rate to 0, each at its middle."""
    bounds = np.linspace(0, steps, ANNEALED_IN + 1).round().astype(int)
    middles = (bounds[:-1] + bounds[1:]) / 2
    rates = rate * 0.5 * (1 + np.cos(np.pi * middles / steps))
    return [(int(length), float(at)) for length, at in zip(np.diff(bounds), rates)]


def _bits(result: ForkResult | None, probe: bool = False) -> np.ndarray | None:
    measured = result[0].measured if result else None
    if measured is None:
        return None
    return measured.probe_bits if probe else measured.bits


def _gains(name: str, bits: list[np.ndarray | None], controls: int) -> list[Measurement]:
    """Gains over the better control and their errors, on each half of the validation images."""
    level = [one for one in bits[:controls] if one is not None]
    found = []
    for number, one in enumerate(bits[controls:]):
        for half in (0, 1) if one is not None and level else ():
            assert one is not None
            gain = gain_over(one, level, np.arange(half, len(one), 2))
            found.append(Measurement(f"gain:{name}:{half}", gain.bits, number))
            found.append(Measurement(f"error:{name}:{half}", gain.standard_error, number))
    return found


@dataclass
class Fork:
    """gains, errors: (heat or end, half) -> bits. A heat is named by its estimator and length, `decoder 200`."""

    action: str = ""
    parameters_added: int = 0
    gains: dict[tuple[str, int], float] = field(default_factory=dict)
    errors: dict[tuple[str, int], float] = field(default_factory=dict)

    def worth(self, half: int) -> float:
        """The score in the end, on this half."""
        return self.scored(self.gains[END, half])

    def scored(self, gain: float) -> float:
        """This gain by the parameters that the fork adds."""
        return score(gain, self.parameters_added, SCORE_FLOOR)


def forks_of(rows: Sequence[Row]) -> dict[int, list[Fork]]:
    """rng_seed -> the forks of its network that came to the end."""
    found: dict[int, dict[int, Fork]] = {}
    for row in rows:
        kind, _, rest = row.quantity.partition(":")
        if kind not in ("action", "parameters_added", "gain", "error"):
            continue
        fork = found.setdefault(row.rng_seed, {}).setdefault(row.item, Fork())
        if kind == "action":
            fork.action = rest
        elif kind == "parameters_added":
            fork.parameters_added = int(row.value)
        else:
            name, _, half = rest.rpartition(":")
            {"gain": fork.gains, "error": fork.errors}[kind][name, int(half)] = row.value
    return {
        seed: [fork for fork in forks.values() if (END, 0) in fork.gains]
        for seed, forks in sorted(found.items())
    }


def correlation(forks: Sequence[Fork], heat: str, maturity: Maturity | None = None) -> float:
    """Rank correlation of the gain in a heat on one half with the gain in the end on the other, both ways."""
    found = []
    for half in (0, 1):
        seen = [_matured(fork, heat, half, maturity) for fork in forks]
        found.append(rank_correlation(seen, [fork.gains[END, 1 - half] for fork in forks]))
    return float(np.mean(found))


def regret(forks: Sequence[Fork], heat: str, maturity: Maturity | None = None) -> float:
    """The share of the best score in the end that is missed by the fork that scores best in a heat.

    A fork has to be proven in the heat; where none is, nothing is gained. The fork that is best in hindsight is
    found on the same half as the choice is made, and both are valued on the other: the best of many would be
    overvalued by what it was found on. Forks that free parameters are left out, as the tournament ranks them by
    themselves.
    """
    growth = [fork for fork in forks if fork.parameters_added > 0]
    reached = best = 0.0
    for half in (0, 1):
        proven = [fork for fork in growth if fork.gains[heat, half] > PROVEN * fork.errors[heat, half]]
        if proven:
            chosen = max(proven, key=lambda fork: fork.scored(_matured(fork, heat, half, maturity)))
            reached += chosen.worth(1 - half)
        best += max(growth, key=lambda fork: fork.worth(half)).worth(1 - half)
    return 1 - reached / best if best > 0 else 0.0


def _matured(fork: Fork, heat: str, half: int, maturity: Maturity | None) -> float:
    """The gain in a heat, and what is still to come by the rises that were learned."""
    gain = fork.gains[heat, half]
    if maturity is None:
        return gain
    return gain + maturity.rise(fork.action, int(heat.split()[1])) * max(0, fork.parameters_added) / 1000


def learned_from(networks: Sequence[Sequence[Fork]], heat: str) -> Maturity:
    """Rises as if all forks of these networks that add parameters had been audited."""
    steps = int(heat.split()[1])
    return learn(
        Audit(fork.action, fork.parameters_added, steps, fork.gains[heat, half], fork.gains[END, 1 - half])
        for forks in networks
        for fork in forks
        for half in (0, 1)
        if fork.parameters_added > 0
    )


def findings(rows: Sequence[Row]) -> list[Row]:
    """A row for every heat, as its arm, quantity and network: correlations and regrets, without rises and with."""
    networks = forks_of(rows)
    found = []
    for heat in (f"{estimator} {steps}" for estimator in ESTIMATORS for steps in HEATS):
        for seed, forks in networks.items():
            growth = [fork for fork in forks if fork.parameters_added > 0]
            elsewhere = learned_from([other for number, other in networks.items() if number != seed], heat)
            values: dict[str, float] = {
                "correlation": correlation(forks, heat),
                "of growth": correlation(growth, heat),
                "of growth with rises": correlation(growth, heat, elsewhere),
                "regret": regret(forks, heat),
                "regret with rises": regret(forks, heat, elsewhere),
            }
            found += [Row(heat, seed, quantity, 0, value) for quantity, value in values.items()]
    return found


def judge(rows: Sequence[Row]) -> Finding:
    """Whether the default heat ranks well enough, and chooses well enough with rises learned elsewhere."""
    found, networks = findings(rows), forks_of(rows)
    quantities = list(dict.fromkeys(row.quantity for row in found))
    means = {quantity: means_of(found, quantity) for quantity in quantities}
    leads = leads_over(DEFAULT, found, "correlation")
    lead = f"over {DEFAULT}"
    header = ("heat", "rank correlation", lead, "of growth", "with rises", "regret, %", "with rises, %")
    body = [
        (
            name,
            shown_with_spread([*values.values()], digits=2),
            leads[name].shown() if name in leads else "",
            f"{means['of growth'][name]:.2f}",
            f"{means['of growth with rises'][name]:.2f}",
            f"{100 * means['regret'][name]:.0f}",
            f"{100 * means['regret with rises'][name]:.0f}",
        )
        for name, values in values_of(found, "correlation").items()
    ]
    ranks = means["correlation"][DEFAULT] >= ENOUGH
    chooses = means["regret with rises"][DEFAULT] <= TOLERATED
    holds = verdict(yes=ranks and chooses, in_part=ranks or chooses)
    return Finding(holds, _sentences(networks, means), (header, *body))


def _sentences(networks: dict[int, list[Fork]], means: dict[str, dict[str, float]]) -> tuple[str, ...]:
    count = sum(len(forks) for forks in networks.values())
    ceiling = np.mean([correlation(forks, END) for forks in networks.values()])
    growth = [[fork for fork in forks if fork.parameters_added > 0] for forks in networks.values()]
    actions = sorted({fork.action for forks in growth for fork in forks})
    rises = [(steps, learned_from(growth, f"decoder {steps}")) for steps in HEATS[:2]]
    listed = ", ".join(
        f"{action} " + "/".join(f"{known.rise(action, steps):+.2f}" for steps, known in rises)
        for action in actions
    )
    best = max(means["correlation"], key=lambda name: means["correlation"][name])
    return (
        f"{count} forks of {len(networks)} networks. The gain in the end on one half of the images correlates with "
        f"that on the other by {ceiling:.2f}: no heat can do much better.",
        f"{DEFAULT} steps: rank correlation {means['correlation'][DEFAULT]:.2f} (wanted: {ENOUGH:g}), regret "
        f"{100 * means['regret'][DEFAULT]:.0f} %, with rises learned on the other networks "
        f"{100 * means['regret with rises'][DEFAULT]:.0f} % (wanted: {100 * TOLERATED:.0f} %). Best heat: {best}.",
        f"Gained after {HEATS[0]} and {HEATS[1]} steps, in bits per thousand parameters: {listed}.",
    )


def draw(rows: Sequence[Row]) -> Chart:
    found = findings(rows)
    correlations = _drawn(found, "correlation", "Rank correlation with the gain in the end", ENOUGH)
    regrets = _drawn(found, "regret", "Regret by score", TOLERATED)
    return charts.beside({"ranks": correlations, "choices": regrets}, same_y=False)


def _drawn(found: Sequence[Row], quantity: str, label: str, wanted: float) -> Chart:
    """Of every estimator a point for each network, and a line through their means, against the length of the heat."""
    x, y = Axis("steps", "Steps of the heat", kind="ordinal"), Axis("value", label)
    by_heat = values_of(found, quantity)
    each = [
        {"estimator": estimator, "steps": steps, "value": value}
        for estimator in ESTIMATORS
        for steps in HEATS
        for value in by_heat[f"{estimator} {steps}"].values()
    ]
    means = [
        {"estimator": estimator, "steps": steps, "value": float(np.mean([*by_heat[heat].values()]))}
        for estimator in ESTIMATORS
        for steps in HEATS
        if (heat := f"{estimator} {steps}") in by_heat
    ]
    return charts.layered(
        charts.lines(means, x, y, "estimator"),
        charts.points(each, x, y, "estimator", size=16),
        charts.rule(wanted, "wanted"),
    )


STUDY = Study(
    name="estimators",
    question="Does a short heat tell which fork is worth most in the end?",
    claim="gains of a heat rank forks as their gains after full training do (0.8), and the choice misses 20 % at most",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="How well a heat tells the end, by its length and its estimator",
    reading="Small points are networks, larger ones with a line their means; the dashed line is what is wanted.",
)
