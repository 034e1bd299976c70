"""Rows for every study, made up: no study has to be run to see what it says and draws."""

from __future__ import annotations

from collections.abc import Iterator

from search.commands.study.studies import estimators, initialisation, overconfidence, patched_grid, rivals
from search.commands.study.studies.patchability import PREDICTORS
from search.commands.study.study import Row, Scale, Study
from structnet.data.dataset import Dataset
from structnet.experiments.rescue import ARMS

COMMON = ("accuracy", "test_accuracy", "parameters", "parameter_steps_all")
ITEMS: dict[str, tuple[int, ...]] = {
    "front": (400, 600),
    "prunes": (600, 1200),
    "overconfidence": (1, 2, 4),
    "patchability": tuple(range(6)),
    "estimators": tuple(range(8)),
}


def quantities_of(study: str) -> tuple[str, ...]:
    """What the tasks of a study measure, as its judge and its chart need it."""
    of_arms = tuple(f"{quantity}:{arm}" for arm in ARMS for quantity in ("accuracy", "parameters"))
    starts = {
        initialisation.BASE,
        *(
            arm
            for start in initialisation.STARTS.values()
            for arm in (start.method, start.control, *start.others)
        ),
    }
    heats = [f"{one} {steps}" for one in estimators.ESTIMATORS for steps in estimators.HEATS]
    special: dict[str, tuple[str, ...]] = {
        "patching": of_arms,
        "rescue": of_arms,
        "allocation": (*of_arms, "lift"),
        "initialisation": tuple(
            f"{quantity}:{arm}"
            for arm in sorted(starts)
            for quantity in ("accuracy", "information", "parameters")
        ),
        "targets": ("held", *COMMON),
        "rivals": tuple(f"{quantity}:{method}" for method in rivals.RATES for quantity in COMMON),
        "economy": (*COMMON, "bought", "sold", "too dear"),
        "consistency": ("likeness:grown", "likeness:null", "inputs:grown"),
        "optimality": ("needed", "teacher"),
        "prunes": ("information", *COMMON, "chosen:saliency"),
        "tournament": (*COMMON, "share_deciding"),
        "pictures": (*COMMON, "macs", "training_macs"),
        "patchability": (*PREDICTORS, *(f"information:{arm}" for arm in patched_grid.ARMS), "networks"),
        "overconfidence": overconfidence.SHOWN,
        "tables": ("test_accuracy", "balanced_accuracy", "parameters", "bytes"),
        "estimators": (
            "action:patch",
            "parameters_added",
            *(
                f"{kind}:{heat}:{half}"
                for kind in ("gain", "error")
                for heat in (*heats, estimators.END)
                for half in (0, 1)
            ),
        ),
    }
    return special.get(study, COMMON)


def rows_for_study(study: Study, data: Dataset, rng_seeds: int = 2) -> list[Row]:
    """Of every task of the study on this data, numbers that differ a little."""
    return list(_made_up(study, data, rng_seeds))


def _made_up(study: Study, data: Dataset, rng_seeds: int) -> Iterator[Row]:
    for number, task in enumerate(study.tasks(data, Scale(tuple(range(rng_seeds)), quick=True))):
        for place, quantity in enumerate(quantities_of(study.name)):
            for item in ITEMS.get(study.name, (0,)):
                value = 0.5 + 0.4 * ((7 * number + 3 * place + 5 * item + 11 * task.rng_seed) % 17) / 17
                yield Row(task.arm, task.rng_seed, quantity, item, value * _size(quantity))
        yield Row(task.arm, task.rng_seed, "seconds", 0, 3.0)


def _size(quantity: str) -> float:
    """Sizes and costs are thousands, shares below 1."""
    large = (
        "parameters",
        "parameter_steps",
        "needed",
        "teacher",
        "bytes",
        "macs",
        "training_macs",
        "networks",
    )
    return 1000.0 if quantity.startswith(large) else 1.0
