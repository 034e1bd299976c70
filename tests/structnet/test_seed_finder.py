"""The seed finder: which of a grid of small networks is the smallest that learns, by hand."""

from __future__ import annotations

import pytest
from helpers.table_cases import candidate_row

from structnet.experiments.seed_finder import Candidate, around, candidates, smallest, smallest_by_shape

# Chance is 0.1 and the margin 0.1, so learning begins at 0.2.
ROWS = [
    candidate_row((9, 3), 0.1, 0, 10, 0.6),
    candidate_row((9, 3), 0.1, 1, 10, 0.19),  # the smallest, but not with every rng_seed
    candidate_row((9, 3), 0.5, 0, 20, 0.2),
    candidate_row((9, 3), 0.5, 1, 20, 0.3),
    candidate_row((9, 2, 3), 0.5, 0, 20, 0.4),
    candidate_row((9, 2, 3), 0.5, 1, 20, 0.5),  # as small, and more accurate
    candidate_row((9, 2, 3), 0.3, 0, 15, 0.9),
    candidate_row((9, 2, 3), 0.3, 1, 15, None, "failed"),
    candidate_row((9, 4, 3), 0.5, 0, 30, 0.2),
    candidate_row((9, 4, 3), 0.5, 1, 30, 0.3),
    candidate_row((9, 4, 3), 0.9, 0, None, None, "failed"),  # could not be built
]


def test_a_candidate_learns_only_with_every_rng_seed() -> None:
    found = candidates(ROWS, 0.1, 0.1)
    assert [one.parameters for one in found] == [10, 15, 20, 20, 30]
    assert [(one.learned, one.rng_seeds, one.learns) for one in found] == [
        (1, 2, False),
        (1, 2, False),
        (2, 2, True),
        (2, 2, True),
        (2, 2, True),
    ]
    assert found[0].mean == pytest.approx(0.395)
    assert found[1].accuracies == (0.9,)


def test_of_equals_the_most_accurate_is_the_smallest() -> None:
    found = candidates(ROWS, 0.1, 0.1)
    best = smallest(found)
    assert best is not None
    assert (best.shape, best.density, best.parameters) == ("9-2-3", 0.5, 20)
    assert [one.shape for one in smallest_by_shape(found)] == ["9-2-3", "9-3", "9-4-3"]
    assert smallest(candidates(ROWS, 0.1, 0.5)) is None


def test_the_ladder_is_what_lies_around() -> None:
    found = [Candidate((9, 3), size / 10, size, (size / 100,), 1, int(size > 4)) for size in range(1, 11)]
    assert [one.parameters for one in around(found, found[4], 2)] == [3, 4, 5, 6, 7]
    assert [one.parameters for one in around(found, found[0], 2)] == [1, 2, 3]
    assert [one.parameters for one in around(found, None, 2)] == [6, 7, 8, 9, 10]


def test_a_network_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="is there twice"):
        candidates([ROWS[0], ROWS[0]], 0.1, 0.1)
