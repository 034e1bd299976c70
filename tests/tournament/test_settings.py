"""Settings: what cannot be is refused by name, and lengths fit the size of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, settings_for
from structnet.data.dataset import Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.growth.triggers import TRIGGERS
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from tournament.settings import Settings, check_job, fitted_epochs, fitted_lengths, fitted_settings


def test_lengths_on_digits_mnist_and_a_small_file() -> None:
    assert fitted_lengths(1078, 40) == (32, 33, 66)
    assert fitted_lengths(54_000, 20) == (128, 100, 200)
    assert fitted_lengths(360, 20) == (8, 22, 44)


def test_small_data_get_the_epochs_that_make_enough_steps() -> None:
    assert fitted_epochs(54_000) == 20
    assert fitted_epochs(1078) == 152  # 33 batches of 32
    assert fitted_epochs(1078, batch_size=8) == 38  # 134 of 8
    assert fitted_epochs(1) == 1000
    assert fitted_settings(1078).epochs == 152
    assert fitted_settings(1078, epochs=3).epochs == 3


def test_shapes_compete_unless_something_is_asked_that_growths_alone_can_do() -> None:
    found = fitted_settings(1078)
    assert (found.policy, found.rounds) == ("shape", 3)
    for asked in ({"scales": (4, 8)}, {"indefinite": True, "target_accuracy": 0.9}, {"trigger": "plateau"}):
        assert fitted_settings(1078, **asked).policy == "score"
    assert fitted_settings(1078, policy="score").rounds == 12
    assert fitted_settings(1078, policy="score", target_accuracy=0.9).rounds == 1
    assert fitted_settings(1078, rounds=5).rounds == 5


def test_what_is_given_stays() -> None:
    assert fitted_lengths(1078, 40, 64, 5, 7) == (64, 5, 7)
    settings = fitted_settings(1078, recipe=Recipe(batch_size=50, l1=0.0), heat_steps=9, rounds=3)
    assert (settings.recipe.batch_size, settings.recipe.l1, settings.heat_steps, settings.rounds) == (
        50,
        0.0,
        9,
        3,
    )


@given(st.integers(1, 10**6), st.integers(1, 1000))
def test_lengths_are_always_possible(images: int, epochs: int) -> None:
    batch, round_steps, heat_steps = fitted_lengths(images, epochs)
    assert 8 <= batch <= 128
    assert 1 <= round_steps <= 100
    assert heat_steps == 2 * round_steps


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"heat_steps": 0},
        {"candidates": 0},
        {"rounds": -1},
        {"audits": -1},
        {"audit_factor": 0.0},
        {"screening": "luck"},
        {"actions": ("teleport",)},
        {"actions": ()},
        {"policy": "luck"},
        {"information": "binning"},
        {"trigger": "mood"},
        {"target_accuracy": 97.0},
        {"learning_rate": 0.0},
        {"growth_share": 0.0},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(UserError, match=name):
        Settings(**wrong)


def test_a_limit_below_the_classes_is_refused() -> None:
    digits = load_dataset("digits")
    check_job(Settings(max_parameters=11), digits)
    with pytest.raises(UserError, match="max_parameters is 10, but must be at least 11"):
        check_job(Settings(max_parameters=10), digits)


def grown_with(**options: Any) -> Settings:
    given = GrowOptions(architecture="input,32,classes", epochs=40, **options)
    fitted = fitted_to(given, load_dataset("digits"))
    assert fitted_to(fitted, load_dataset("digits")) == fitted
    return settings_for(fitted, rng_seed=2)


@pytest.mark.parametrize(
    ("told", "rounds"),
    [
        ({}, 0),
        ({"rounds": 2}, 2),
        ({"policy": "random"}, 12),
        ({"architecture": "1@16,4@8,10"}, 3),
        ({"architecture": "input,100,classes"}, 3),
    ],
)
def test_nothing_competes_with_the_pyramid_that_fits_the_size(told: dict[str, Any], rounds: int) -> None:
    digits = load_dataset("digits")
    images = digits.train.images.float().repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    pictures = replace(digits, train=Split(images, digits.train.labels))
    fitted = fitted_to(GrowOptions(max_parameters=300, **told), pictures)
    assert fitted.rounds == rounds


def test_grow_has_every_trigger() -> None:
    for name in TRIGGERS:
        assert grown_with(trigger=name).trigger == name


def test_grow_passes_audits_and_screening_on() -> None:
    given = grown_with(audits=2, audit_factor=1.5, screening="thompson")
    assert (given.audits, given.audit_factor, given.screening) == (2, 1.5, "thompson")
    assert (grown_with().audits, grown_with().screening) == (0, "promise")


def test_grow_passes_regularisation_and_rates_on() -> None:
    """A line of 1,320 steps on digits; rounds of 33 steps and heats of 66."""
    assert grown_with().recipe == Recipe(32, l1=5e-5, rng_seed=2)
    assert grown_with(weight_decay=0.1, rates="age").recipe == Recipe(
        32, l1=5e-5, rates=AgeRates(matures_after=297), rng_seed=2, weight_decay=0.1
    )
    assert grown_with(rates="freeze").recipe.rates == AgeRates(matures_after=297, freezes_after=396)
    assert grown_with(rates="freeze", matures_after=50, freezes_after=60).recipe.rates == AgeRates(
        matures_after=50, freezes_after=60
    )


@pytest.mark.parametrize(
    "wrong", [{"weight_decay": -1.0}, {"rates": "old"}, {"matures_after": 5}, {"freezes_after": 5}], ids=str
)
def test_grow_refuses_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        grown_with(**wrong)
