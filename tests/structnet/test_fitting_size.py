"""How many parameters fit into bytes: about as many as are taken, and never fewer than a network has."""

from __future__ import annotations

import pytest

from structnet import StructNet
from structnet.errors import UserError
from structnet.measure.fitting_size import parameters_within
from structnet.measure.size import stored_bytes
from structnet.network.architecture import density_for


@pytest.mark.parametrize("shape", [(64, 32, 10), (784, 100, 10), (2, 100, 2), (5, 3)])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_network_of_that_many_parameters_takes_about_those_bytes(
    shape: tuple[int, ...], share: float
) -> None:
    most = stored_bytes(StructNet(shape, 1.0).topology)
    bound = round(share * most)
    fitting = parameters_within(bound, shape)
    density = density_for(shape, fitting)
    if density > 0:
        taken = stored_bytes(StructNet(shape, density).topology)
        assert taken == pytest.approx(bound, rel=0.1, abs=12)


def test_more_bytes_than_the_dense_network_takes_are_as_good_as_all_of_it() -> None:
    dense = StructNet((6, 4, 3), 1.0)
    assert parameters_within(10_000, (6, 4, 3)) >= dense.parameter_count


def test_less_than_the_smallest_network_takes_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"max_bytes is 20, but must be at least 55: a bias for each of 10 classes"
    ):
        parameters_within(20, (64, 32, 10))
