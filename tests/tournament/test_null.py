"""Where nothing helps, nothing is adopted: of heats and of whole tournaments at most 5 % adopt, by the test alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.actions.base import Proposal
from structnet.data.dataset import Dataset, Split
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament, heats
from tournament.heats import Entrant, Terms, judge, rank
from tournament.rules.score import POLICIES, bar_for
from tournament.settings import Settings
from tournament.workers.fork import Measured

torch.set_num_threads(1)

FORKS, HEATS = 24, 400


def any_is_adopted(images: int, round_number: int, rng: np.random.Generator) -> bool:
    """A last heat in which forks and controls are all the same but for what their training did to single images."""
    difficulty = -rng.exponential(0.5, images)

    def measured() -> Measured:
        # As log-likelihoods are: nearly always close to each other, and now and then far off.
        surprise = rng.exponential(0.3, images) * (rng.random(images) < 0.2)
        bits = difficulty - surprise
        return Measured(0.8, 0.5, bits, tempered_bits=bits)

    field = [Entrant(number, "train", "", None, None, control=True, stays=True) for number in range(2)]
    for number in range(2, 2 + FORKS):
        field.append(Entrant(number, "patch", "", Proposal("patch", "", 10 * number, 0.0), None))
    for entrant in field:
        entrant.measured = measured()
    terms = Terms(
        Recipe(), 1e-3, bar_for(images, round_number, FORKS), POLICIES["score"], "decoder", 0.005, 32
    )
    rank(field, terms)
    return judge(field, terms, entropy=10.0, affords=lambda added: True).winner is not None


@pytest.mark.parametrize("images", [40, 120, 400, 1500, 6000])
def test_a_fork_that_differs_by_nothing_is_adopted_in_at_most_5_percent_of_heats(images: int) -> None:
    rng = np.random.default_rng(images)
    adopted = sum(any_is_adopted(images, 1, rng) for _ in range(HEATS))
    # One more than 5 % would give in 95 of 100 cases.
    assert adopted <= 0.05 * HEATS + 1.65 * math.sqrt(0.05 * 0.95 * HEATS)


def random_labels(rng_seed: int) -> Dataset:
    """Inputs and labels that have nothing to do with each other."""
    rng = np.random.default_rng(rng_seed)

    def split(count: int) -> Split:
        images = torch.from_numpy(rng.random((count, 20), dtype=np.float32))
        return Split(images, torch.from_numpy(rng.integers(0, 3, count)))

    return Dataset("noise", split(300), split(300), split(50), 3, ("a", "b", "c"), {})


def adopts_on_noise(rng_seed: int) -> bool:
    network = StructNet([20, 8, 3], 0.2, rng_seed=rng_seed, ensure_paths=True)
    settings = Settings(
        policy="score",
        epochs=20,
        rounds=3,
        round_steps=10,
        heat_steps=20,
        candidates=8,
        growth_share=0.9,
        recipe=Recipe(batch_size=32, rng_seed=rng_seed),
        economy=Economy(opening_credits=1000),
    )
    result = Tournament(network, random_labels(rng_seed), settings=settings).run()
    return any(row["decision"] == "adopted" for row in result.rounds)


@pytest.fixture
def without_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of significance has to hold by itself."""
    monkeypatch.setattr(heats, "is_informative", lambda *arguments: True)


@pytest.mark.usefixtures("without_the_gate")
def test_hardly_anything_is_adopted_on_random_labels() -> None:
    assert sum(adopts_on_noise(seed) for seed in range(20)) <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("without_the_gate")
def test_of_200_tournaments_on_random_labels_at_most_5_percent_adopt() -> None:
    assert sum(adopts_on_noise(seed) for seed in range(200)) <= 10
