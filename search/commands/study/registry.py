"""The studies by name. A new one is a file and an entry here."""

from __future__ import annotations

from search.commands.study.studies import (
    allocation,
    consistency,
    economy,
    estimators,
    front,
    initialisation,
    learning,
    optimality,
    overconfidence,
    overshoot,
    patchability,
    patching,
    pictures,
    policies,
    prunes,
    rivals,
    tables,
    targets,
    tournament,
)
from search.commands.study.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        patching.PATCHING,
        patching.RESCUE,
        allocation.STUDY,
        overshoot.STUDY,
        front.STUDY,
        targets.STUDY,
        rivals.STUDY,
        policies.STUDY,
        learning.TRIGGERS,
        learning.RATES,
        economy.STUDY,
        consistency.STUDY,
        optimality.STUDY,
        prunes.STUDY,
        tournament.STUDY,
        pictures.STUDY,
        patchability.STUDY,
        initialisation.STUDY,
        overconfidence.STUDY,
        tables.STUDY,
        estimators.STUDY,
    )
}
