"""Does the hunter's patchability predict what a patch brings? And if not, what does?

What a patch brings a network is its information in the end less that of the better control: the same network after
moving as many connections, or only trained on (search.commands.study.studies.patched_grid). Every number that a hunt
could choose by is compared with it in its order over the networks of one rng_seed (Spearman 1904).

There are patches of two sizes. What is moved comes from the weakest connections, of which many start at inputs that are
hardly ever on: to move as many as a small patch has costs nothing, and then there is hardly a gain to predict.

Networks without a patchability - at chance, where the score of the source is largest - are left out throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from search.commands.study.comparison import Arm, compare, draw_arms, shown
from search.commands.study.studies.patched_grid import measure
from search.commands.study.study import Finding, Row, Scale, Study, Task
from structnet.experiments.verdict import LEVEL, Lead, paired_lead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structnet.data.datasets import Dataset

HIDDEN = "16 32 64 128 256 64-32 128-64 256-128 64-64-64 128-64-32"
ON_SMALL = "8 16 32 64 128 32-16 64-32 64-64 16-16-16 32-32-32"
PATCH_SHARES = (0.05, 0.5)  # of the parameters there are
DENSITIES = [0.005, 0.01, 0.02, 0.05, 0.1]
SMALL_DENSITIES = [0.05, 0.1, 0.2, 0.3, 0.5]

CLAIMED = "patchability"
# What a hunt knows of a network, and what one backward pass adds. The accuracy itself orders as its error does, the
# other way round.
PREDICTORS = (
    CLAIMED,
    "error",
    "train loss",
    "density",
    "parameters",
    "hidden units",
    "saturated share",
    "dead share",
    "predicted gain",
    "predicted gain per parameter",
    "gradient norm",
)
ENOUGH = 0.3  # the rank correlation from which on patchability is worth choosing by
LEAST_NETWORKS = 3  # fewer have no order to speak of
HARDLY = 0.001  # bits


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    small = data.input_units < 200
    options = {
        "hidden": [[*map(int, widths.split("-"))] for widths in (ON_SMALL if small else HIDDEN).split()],
        "densities": SMALL_DENSITIES if small else DENSITIES,
        "epochs": (10 if small else 5) // (4 if scale.quick else 1),
        "more_epochs": (10 if small else 4) // (2 if scale.quick else 1),
        "batch_size": 32 if small else 128,
        "learning_rate": 6e-3 if small else 2e-3,
    }
    return [
        Task(f"patch {share:g}", seed, {**options, "patch_share": share})
        for share in PATCH_SHARES
        for seed in scale.rng_seeds
    ]


def networks_of(rows: Sequence[Row]) -> dict[int, dict[int, dict[str, float]]]:
    """rng_seed -> number -> quantity -> value of every network that has a patchability, from the rows of one arm.

    Beside what was measured: `gain`, over the better of moving and training on, and `lift`, over training on.
    """
    found: dict[int, dict[int, dict[str, float]]] = {}
    for row in rows:
        found.setdefault(row.rng_seed, {}).setdefault(row.item, {})[row.quantity] = row.value
    return {
        seed: {
            number: one
            | {"gain": _lead_of_patched(one, "static", "moved"), "lift": _lead_of_patched(one, "static")}
            for number, one in networks.items()
            if {CLAIMED, "information:patched"} <= one.keys()
        }
        for seed, networks in sorted(found.items())
    }


def _lead_of_patched(network: dict[str, float], *arms: str) -> float:
    """Bits over the best of these arms."""
    return network["information:patched"] - max(network[f"information:{arm}"] for arm in arms)


def correlations(rows: Sequence[Row], brought: str = "gain") -> list[Row]:
    """A row `correlation` for every predictor, as its arm, and every rng_seed with networks enough."""
    return [
        Row(name, seed, "correlation", 0, _correlation(networks.values(), name, brought))
        for name in PREDICTORS
        for seed, networks in networks_of(rows).items()
        if len(networks) >= LEAST_NETWORKS
    ]


def _correlation(networks: Iterable[dict[str, float]], one: str, other: str) -> float:
    listed = list(networks)
    return rank_correlation([network[one] for network in listed], [network[other] for network in listed])


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Of their ranks, equal values sharing theirs (Spearman 1904); 0 where either has no order at all."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (one, other)]
    if any(np.ptp(found) == 0 for found in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def agreement(rows: Sequence[Row], brought: str = "gain") -> float | None:
    """Rank correlation of what patches bring between two rng_seeds, over the networks of one shape and density.

    The mean over all pairs of rng_seeds: how much of it belongs to the kind of network at all. None for too few.
    """
    found = []
    for one, other in combinations(networks_of(rows).values(), 2):
        both = sorted(one.keys() & other.keys())
        if len(both) >= LEAST_NETWORKS:
            found.append(
                rank_correlation(*([side[number][brought] for number in both] for side in (one, other)))
            )
    return float(np.mean(found)) if found else None


def judge(rows: Sequence[Row]) -> Finding:
    """Whether patchability is surely above 0.3, and whether another predictor is surely better, for each size.

    Strength is the correlation in the direction that a predictor has on average, so that small networks may predict as
    well as large ones; of patchability only the claimed direction counts. Leads over it are paired by rng_seed, with
    Bonferroni's correction for the number of rivals. Where the sizes disagree, the claim holds in part if it does so
    for any of them.
    """
    found = {arm: _judge_size(rows_of_size) for arm, rows_of_size in by_size(rows).items()}
    verdicts = {one.holds for one in found.values()}
    holds = verdicts.pop() if len(verdicts) == 1 else "in part" if verdicts & {"yes", "in part"} else "open"
    sentences = [f"{arm}: {sentence}" for arm, one in found.items() for sentence in one.sentences]
    table: list[tuple[str, ...]] = []
    for arm, one in found.items():
        header, *body = one.table or ((),)
        table = table or ([("patch", *header)] if header else [])
        table += [(arm.removeprefix("patch "), *cells) for cells in body]
    return Finding(holds, tuple(sentences), tuple(table))


def by_size(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each arm of the tasks."""
    return {arm: [row for row in rows if row.arm == arm] for arm in dict.fromkeys(row.arm for row in rows)}


def _judge_size(rows: Sequence[Row]) -> Finding:
    found = correlations(rows)
    if not found:
        return Finding("open", (f"no rng_seed has {LEAST_NETWORKS} networks that learned.",))
    arms = compare(found, "correlation", CLAIMED)
    lifts = compare(correlations(rows, "lift"), "correlation", CLAIMED)
    means, of_lift = ({name: _interval(arm) for name, arm in each.items()} for each in (arms, lifts))
    leads = {name: _strength_lead(arm, arms[CLAIMED]) for name, arm in arms.items() if name != CLAIMED}
    better = [name for name, lead in leads.items() if lead.low > 0]
    if means[CLAIMED].low > ENOUGH:
        holds = "in part" if better else "yes"
    else:
        holds = "no" if better or means[CLAIMED].high < ENOUGH else "open"
    header = ("predictor", "rank correlation with the gain", "strength over patchability", "with the lift")
    body = [
        (name, shown(means[name]), shown(leads[name]) if name in leads else "", shown(of_lift[name]))
        for name in sorted(means, key=lambda name: -abs(means[name].mean))
    ]
    return Finding(holds, _sentences(rows, means, of_lift, better), (header, *body))


def _sentences(
    rows: Sequence[Row], means: dict[str, Lead], of_lift: dict[str, Lead], better: list[str]
) -> tuple[str, ...]:
    networks = [list(found.values()) for found in networks_of(rows).values() if found]
    every = [row.value for row in rows if row.quantity == "networks"]
    best, best_of_lift = (max(found, key=lambda name: abs(found[name].mean)) for found in (means, of_lift))

    def lead(*arms: str) -> str:
        per_seed = [np.mean([_lead_of_patched(one, *arms) for one in found]) for found in networks]
        return shown(paired_lead(np.array(per_seed)), digits=4)

    alike = agreement(rows)
    there = np.mean([abs(one["gain"]) > HARDLY for found in networks for one in found])
    return (
        f"{np.mean([len(found) for found in networks]):.0f} of {np.mean(every):.0f} networks of an rng_seed learned "
        f"and are compared. The gain is beyond ±{HARDLY:g} bits in {there:.0%} of them"
        + (f", and correlates by {alike:+.2f} between rng_seeds." if alike is not None else "."),
        f"on average patches bring {lead('static', 'moved')} bits over the better of training on and moving (the "
        f"gain), {lead('static')} over training on (the lift), {lead('moved')} over moving, and {lead('random')} over "
        "as many connections at random places.",
        f"patchability correlates with the gain by {shown(means[CLAIMED])} in rank, where more than {ENOUGH:g} is "
        f"needed. The best predictor is {best}: {shown(means[best])}; surely better than patchability: "
        f"{', '.join(better) or 'none'}.",
        f"the best predictor of the lift is {best_of_lift}: {shown(of_lift[best_of_lift])}, with patchability at "
        f"{shown(of_lift[CLAIMED])}.",
    )


def _interval(arm: Arm) -> Lead:
    """Mean over the rng_seeds, with its 95 % t interval."""
    return paired_lead(np.array(list(arm.values.values())))


def _strength_lead(arm: Arm, claimed: Arm) -> Lead:
    """Lead of a rival in strength, with an interval so wide that those of all rivals hold together at 95 %."""
    from scipy.special import stdtrit

    strength = np.sign(arm.mean) * np.array(list(arm.values.values()))
    differences = strength - np.array(list(claimed.values.values()))
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return paired_lead(differences)
    quantile = stdtrit(count - 1, 1 - (1 - LEVEL) / 2 / (len(PREDICTORS) - 1))
    reach = float(quantile * differences.std(ddof=1) / np.sqrt(count))
    return Lead(mean, mean - reach, mean + reach)


def draw(rows: Sequence[Row], figure: Figure) -> None:
    sizes = by_size(rows)
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axes, (arm, found) in zip(panels, sizes.items(), strict=True):
        label = "Rank correlation with the gain" if axes is panels[0] else ""
        draw_arms(axes, correlations(found), "correlation", label)
        axes.set_title(f"{arm} of the parameters", fontsize="small")
        axes.axhline(0, color="0.4", linewidth=1)
        axes.axhline(ENOUGH, color="0.4", linestyle=":", linewidth=1)


STUDY = Study(
    name="patchability",
    question="Does the patchability of a network predict what a patch brings it?",
    claim="networks with many saturated and dead units and much left to learn gain most from patches",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
)
