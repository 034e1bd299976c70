"""The gradient by every tap: the same as from a copy of the source for each offset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from structnet.measure import tap_gradient as taps
from structnet.measure.ports import seen_at
from structnet.measure.tap_gradient import tap_gradient
from structnet.network.architecture import Architecture


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 5, 7]), st.integers(1, 5))
def test_it_is_the_error_times_what_each_offset_shows(rng_seed: int, window: int, images: int) -> None:
    rng = np.random.default_rng(rng_seed)
    side = rng.integers(2, 14, 2)
    target = [int(rng.integers(1 + (axis == 0), most + 1)) for axis, most in enumerate(side)]
    shape = Architecture(
        rng.integers(1, 4, 3), [(int(side[0]), int(side[1])), (target[0], target[1]), (1, 1)], window
    )
    pair = 0, 1
    source = torch.from_numpy(rng.normal(size=(shape[0], shape.area(0) * images)))
    error = torch.from_numpy(rng.normal(size=(shape[1], shape.area(1) * images)))
    expected = [error @ seen_at(shape, pair, code, source).t() for code in shape.port_range(pair)]
    torch.testing.assert_close(tap_gradient(shape, pair, error, source), torch.stack(expected, dim=2))


def test_by_blocks_of_images_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Architecture([2, 3, 1], [(6, 5), (3, 3), (1, 1)])
    source, error = torch.randn(2, 30 * 7, dtype=torch.float64), torch.randn(3, 9 * 7, dtype=torch.float64)
    whole = tap_gradient(shape, (0, 1), error, source)
    monkeypatch.setattr(taps, "IMAGES", 3)  # and one at last
    torch.testing.assert_close(tap_gradient(shape, (0, 1), error, source), whole)
