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

import numpy as np

from search.commands.study.comparison import POINTS, draw_panels, stacked, values_of
from search.commands.study.studies.patched_grid import measure
from search.commands.study.study import Finding, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.measure.statistics import ConfidenceInterval, mean_interval, paired_lead, rank_correlation

HIDDEN = "16 32 64 128 256 64-32 128-64 256-128 64-64-64 128-64-32"
SMALL_HIDDEN = "8 16 32 64 128 32-16 64-32 64-64 16-16-16 32-32-32"
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
    small = has_few_inputs(data)
    return tasks_of(
        {f"patch {share:g}": {"patch_share": share} for share in PATCH_SHARES},
        scale,
        hidden=[[*map(int, widths.split("-"))] for widths in (SMALL_HIDDEN if small else HIDDEN).split()],
        densities=SMALL_DENSITIES if small else DENSITIES,
        epochs=(10 if small else 5) // (4 if scale.quick else 1),
        more_epochs=(10 if small else 4) // (2 if scale.quick else 1),
        batch_size=batch_size_for(data),
        learning_rate=6e-3 if small else 2e-3,
    )


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
    tables = {arm.removeprefix("patch "): one.table for arm, one in found.items()}
    return Finding(holds, tuple(sentences), stacked("patch", tables))


def by_size(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each arm of the tasks."""
    return {arm: [row for row in rows if row.arm == arm] for arm in dict.fromkeys(row.arm for row in rows)}


def _judge_size(rows: Sequence[Row]) -> Finding:
    found = correlations(rows)
    if not found:
        return Finding("open", (f"no rng_seed has {LEAST_NETWORKS} networks that learned.",))
    of_gain = values_of(found, "correlation")
    means, of_lift = (
        {name: mean_interval([*values.values()]) for name, values in values_of(each, "correlation").items()}
        for each in (found, correlations(rows, "lift"))
    )
    leads = {name: _strength_lead(of_gain[name], of_gain[CLAIMED]) for name in means if name != CLAIMED}
    better = [name for name, lead in leads.items() if lead.is_above_zero]
    predicts = means[CLAIMED].low > ENOUGH
    holds = verdict(
        yes=predicts and not better,
        no=not predicts and (bool(better) or means[CLAIMED].high < ENOUGH),
        in_part=predicts,
        otherwise="open",
    )
    header = ("predictor", "rank correlation with the gain", "strength over patchability", "with the lift")
    body = [
        (name, means[name].shown(), leads[name].shown() if name in leads else "", of_lift[name].shown())
        for name in sorted(means, key=lambda name: -abs(means[name].mean))
    ]
    return Finding(holds, _sentences(rows, means, of_lift, better), (header, *body))


def _sentences(
    rows: Sequence[Row],
    means: dict[str, ConfidenceInterval],
    of_lift: dict[str, ConfidenceInterval],
    better: list[str],
) -> tuple[str, ...]:
    networks = [list(found.values()) for found in networks_of(rows).values() if found]
    every = [row.value for row in rows if row.quantity == "networks"]
    best, best_of_lift = (max(found, key=lambda name: abs(found[name].mean)) for found in (means, of_lift))

    def lead(*arms: str) -> str:
        per_seed = [np.mean([_lead_of_patched(one, *arms) for one in found]) for found in networks]
        return mean_interval(np.array(per_seed)).shown(digits=4)

    alike = agreement(rows)
    there = np.mean([abs(one["gain"]) > HARDLY for found in networks for one in found])
    return (
        f"{np.mean([len(found) for found in networks]):.0f} of {np.mean(every):.0f} networks of an rng_seed learned "
        f"and are compared. The gain is beyond ±{HARDLY:g} bits in {there:.0%} of them"
        + (f", and correlates by {alike:+.2f} between rng_seeds." if alike is not None else "."),
        f"on average patches bring {lead('static', 'moved')} bits over the better of training on and moving (the "
        f"gain), {lead('static')} over training on (the lift), {lead('moved')} over moving, and {lead('random')} over "
        "as many connections at random places.",
        f"patchability correlates with the gain by {means[CLAIMED].shown()} in rank, where more than {ENOUGH:g} is "
        f"needed. The best predictor is {best}: {means[best].shown()}; surely better than patchability: "
        f"{', '.join(better) or 'none'}.",
        f"the best predictor of the lift is {best_of_lift}: {of_lift[best_of_lift].shown()}, with patchability at "
        f"{of_lift[CLAIMED].shown()}.",
    )


def _strength_lead(values: dict[int, float], claimed: dict[int, float]) -> ConfidenceInterval:
    """Lead of a rival in strength, with an interval so wide that those of all rivals hold together at 95 %.

    values, claimed: rng_seed -> correlation, of the same rng_seeds.
    """
    direction = np.sign(np.mean([*values.values()]))
    strength = {rng_seed: direction * value for rng_seed, value in values.items()}
    lead = paired_lead(strength, claimed, comparisons=len(PREDICTORS) - 1)
    assert lead is not None  # every predictor has the same rng_seeds
    return lead


def draw(rows: Sequence[Row]) -> Chart:
    panels = {f"{arm} of the parameters": correlations(found) for arm, found in by_size(rows).items()}
    marks = charts.rule(0, ""), charts.rule(ENOUGH, "wanted")
    return draw_panels(panels, "correlation", "Rank correlation with the gain", marks=marks)


STUDY = Study(
    name="patchability",
    question="Does the patchability of a network predict what a patch brings it?",
    claim="networks with many saturated and dead units and much left to learn gain most from patches",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="How well each number predicts what a patch brings",
    reading=POINTS,
)
