"""The learning rate by the norm of the inputs."""

from __future__ import annotations

import pytest
import torch

from structnet.data.dataset import Split
from structnet.network.architecture import sizes_of
from structnet.training.fitted_rate import fitted_rate


def split(images: torch.Tensor) -> Split:
    return Split(images, torch.zeros(len(images), dtype=torch.int64))


@pytest.mark.parametrize(
    ("features", "value", "rate"),
    [(100, 1.0, 0.011), (3072, 0.5, 0.004), (400, -0.5, 0.011), (2, 1.0, 0.02), (5, 0.0, 0.02)],
)
def test_it_is_in_inverse_proportion_to_the_norm_and_has_a_bound(
    features: int, value: float, rate: float
) -> None:
    assert fitted_rate(split(torch.full((8, features), value))) == rate


def test_it_goes_by_the_mean_square_over_images_of_the_whole_set() -> None:
    images = torch.zeros(5000, 100)
    images[2500:] = 2.0  # 0 and 400 in equal parts
    assert fitted_rate(split(images)) == pytest.approx(float(f"{0.11 / 200**0.5:.2g}"), rel=0.02)


def test_of_normalised_maps_inputs_do_not_matter() -> None:
    shape = sizes_of("1@4,3@2,2")
    assert (
        fitted_rate(split(torch.ones(8, 16)), shape)
        == fitted_rate(split(torch.full((8, 16), 9.0)), shape)
        == 0.08
    )
