"""Tables to try things on: two that ship inside scikit-learn, and one that is made up.

breast_cancer  569 rows of 30 columns, 2 classes (Wolberg, Street & Mangasarian 1995)
wine           178 rows of 13 columns, 3 classes (Aeberhard & Forina 1991)
terrain        12,000 rows as land surveys have them: ten skewed columns, one of four areas and one of forty soils,
               some of it missing; 7 classes, of which the commonest is a hundred times as common as the rarest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from structnet.data.dataset import Dataset
    from structnet.data.own_files import Found

TERRAIN_ROWS = 12_000
# Of land cover in the survey of Blackard & Dean (1999), about.
TERRAIN_SHARES = (0.487, 0.365, 0.061, 0.035, 0.03, 0.016, 0.006)


def load(name: str, *, data_dir: str | None, standardise: bool | None, teacher_seed: int) -> Dataset:
    """Prepared and split as a table of the user's would be; data_dir and teacher_seed do not matter."""
    from structnet.data.dataset import dataset_of

    found = read(name, standardise)
    return dataset_of(name, found.raw, found.preprocessing, tuple(found.notes))


def read(name: str, standardise: bool | None) -> Found:
    """Its raw values and preprocessing."""
    from structnet.data.own_files import read_frame

    return read_frame(name, frame_of(name), standardise)


def frame_of(name: str) -> pd.DataFrame:
    """The rows, with a column `label`."""
    if name == "terrain":
        return _terrain()
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")(as_frame=True)
    names = [str(target) for target in found.target_names]
    return found.data.assign(label=[names[number] for number in found.target])


def _terrain() -> pd.DataFrame:
    """Classes are regions of a random network's outputs, so that every column says a little and none says all."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(20)
    hidden = rng.normal(size=(TERRAIN_ROWS, 10))
    area, soil = rng.integers(0, 4, TERRAIN_ROWS), rng.integers(0, 40, TERRAIN_ROWS)
    known = np.hstack([hidden, np.eye(4)[area], np.eye(40)[soil]])
    units = np.maximum(known @ rng.normal(size=(54, 24)) * 0.6 + rng.normal(size=24), 0)
    scores = units @ rng.normal(size=(24, 7)) + rng.gumbel(size=(TERRAIN_ROWS, 7))
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    labels = np.full(TERRAIN_ROWS, -1)
    for number in np.argsort(TERRAIN_SHARES):  # the rarest chooses first
        free = np.flatnonzero(labels < 0)
        count = round(TERRAIN_SHARES[number] * TERRAIN_ROWS)
        labels[free[np.argsort(-scores[free, number])[:count]]] = number
    measured = np.exp(0.7 * hidden) * np.logspace(0, 4, 10)
    measured[rng.random(measured.shape) < 0.01] = np.nan
    frame = pd.DataFrame(measured.round(4), columns=[f"measure_{at}" for at in range(10)])
    return frame.assign(
        area=[f"area {at}" for at in area],
        soil=[f"soil {at:02d}" for at in soil],
        label=[f"cover {max(0, at)}" for at in labels],
    )
