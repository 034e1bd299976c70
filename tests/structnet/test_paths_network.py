"""Networks with plastic paths: what every layout must do, where paths may be, rivals of equal size, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from structnet.errors import UserError
from structnet.modules.evaluation import parameters_in
from structnet.paths.blocks import PlasticPath
from structnet.paths.files import load_plastic, save_plastic
from structnet.paths.network import Plan, Variant
from structnet.paths.registry import VARIANTS, bare_network, fresh_path, start_network, start_rival
from structnet.paths.slots import SlotNetwork
from structnet.paths.variants import path, sequential, shuffle

torch.set_num_threads(1)

GREY, COLOURED = (1, 8, 8), (3, 32, 32)
NARROW = 1 / 16


def plan_of(variant: str, shape: tuple[int, int, int] = GREY, width: float = NARROW) -> Plan:
    return Plan(variant, shape, 10, width)


def images_of(shape: tuple[int, int, int], count: int = 3) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


# --- every layout


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
class TestEveryLayout:
    def test_it_has_room_for_more_paths_than_there_are(self, variant: Variant) -> None:
        assert len(set(variant.places)) == len(variant.places) > variant.budget
        assert all(source < target for source, target in variant.places)

    @pytest.mark.parametrize("shape", [GREY, COLOURED])
    def test_it_gives_logits_with_a_path_in_any_place(
        self, variant: Variant, shape: tuple[int, int, int]
    ) -> None:
        network = start_network(plan_of(variant.name, shape), variant.budget, 0)
        rival = start_rival(plan_of(variant.name, shape), network.parameter_count, 0)
        images = images_of(shape)
        assert network(images).shape == rival(images).shape == (3, 10)
        free = [place for place in variant.places if place not in network.places]
        more = {place: fresh_path(network, place, 0.5, 0, 0) for place in free}
        before = network.places
        with network.with_also(more):
            assert len(network.places) == len(variant.places)
            full = network(images)
        assert full.shape == (3, 10) and bool(full.isfinite().all())
        assert network.places == before

    def test_it_begins_by_its_rng_seed_alone(self, variant: Variant) -> None:
        images = images_of(GREY)
        torch.manual_seed(1)
        first = start_network(plan_of(variant.name), variant.budget, 3)
        torch.manual_seed(2)
        drawn = torch.rand(1)
        torch.manual_seed(2)
        again = start_network(plan_of(variant.name), variant.budget, 3)
        assert torch.equal(torch.rand(1), drawn)  # nothing was drawn from torch's own generator
        other = start_network(plan_of(variant.name), variant.budget, 4)
        assert first.places == again.places != other.places
        assert len(first.places) == variant.budget
        assert torch.equal(first(images), again(images))
        assert all(0 <= scalar < 1 for scalar in first.scalars.values())
        assert len(set(first.scalars.values())) == variant.budget

    def test_its_parameters_are_those_of_backbone_and_paths(self, variant: Variant) -> None:
        network = start_network(plan_of(variant.name), variant.budget, 0)
        paths = sum(parameters_in(network.path(place)) for place in network.places)
        assert network.parameter_count == network.backbone_count + paths
        assert network.backbone_count == parameters_in(bare_network(network.plan, []))

    def test_a_path_is_its_scalar_times_its_body(self, variant: Variant) -> None:
        """Cut, a network is what it is with a scalar of 0, where normalisation does not look at the batch."""
        network = start_network(plan_of(variant.name), variant.budget, 0).eval()
        images = images_of(GREY)
        # Into the decoder, where in every layout no block can fall silent behind it.
        place = max(network.places, key=lambda place: (place[1], place[0]))
        before = network(images)
        with network.without(place):
            cut = network(images)
        network.path(place).scalar.data.zero_()
        assert torch.allclose(cut, network(images), atol=1e-6)
        assert not torch.equal(cut, before)

    def test_there_is_one_path_in_a_place(self, variant: Variant) -> None:
        network = start_network(plan_of(variant.name), variant.budget, 0)
        place = network.places[0]
        with pytest.raises(ValueError, match="there is a path from"):
            network.attach(place, fresh_path(network, place, 0.5, 0, 0))
        network.detach(place)
        with pytest.raises(KeyError):
            network.path(place)

    def test_it_lies_on_any_device(self, variant: Variant) -> None:
        """A path that comes is moved to where the network is."""
        network = start_network(plan_of(variant.name), variant.budget, 0).to("meta")
        place = next(place for place in variant.places if place not in network.places)
        network.attach(place, fresh_path(network, place, 0.5, 0, 0))
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
        assert network(torch.empty(2, *GREY, device="meta")).shape == (2, 10)

    @pytest.mark.parametrize(("shape", "width"), [(GREY, 1 / 16), (COLOURED, 1 / 8)])
    def test_its_rival_has_as_many_parameters(
        self, variant: Variant, shape: tuple[int, int, int], width: float
    ) -> None:
        plan = plan_of(variant.name, shape, width)
        size = start_network(plan, variant.budget, 1).parameter_count
        assert abs(parameters_in(start_rival(plan, size, 1)) - size) <= 0.02 * size

    def test_a_rival_that_cannot_be_so_small_is_refused(self, variant: Variant) -> None:
        with pytest.raises(UserError, match="has 100 parameters, but the residual network of variant"):
            start_rival(plan_of(variant.name), 100, 0)

    @pytest.mark.parametrize("budget", [0, 1000])
    def test_a_budget_without_room_is_refused(self, variant: Variant, budget: int) -> None:
        most = len(variant.places) - 1
        with pytest.raises(UserError, match=f"budget is {budget}, but must be from 1 to {most}: .* places"):
            start_network(plan_of(variant.name), budget, 0)

    def test_what_is_loaded_has_the_same_logits(self, variant: Variant, tmp_path: Path) -> None:
        network = start_network(plan_of(variant.name), variant.budget, 0)
        network(images_of(GREY, 20))  # moves the buffers
        save_plastic(str(tmp_path / "one"), network)
        loaded = load_plastic(str(tmp_path / "one"))
        assert loaded.places == network.places and loaded.plan == network.plan
        images = images_of(GREY)
        assert torch.equal(loaded(images), network.eval()(images))


@pytest.mark.parametrize("width", [0.0, -1.0, 1.5])
def test_a_width_that_no_network_has_is_refused(width: float) -> None:
    with pytest.raises(UserError, match=rf"width is {width:g}, but must be in \(0, 1\]"):
        start_network(plan_of("path", width=width), 15, 0)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(UserError, match="variant is 'loop', but must be one of path, sequential, shuffle"):
        start_network(plan_of("loop"), 15, 0)


# --- the layouts, each by itself


@pytest.mark.parametrize(
    ("place", "may_be"),
    [
        ((0, 1), True),  # around one transition
        ((0, 3), True),
        ((0, 4), False),  # around two
        ((1, 4), True),
        ((1, 7), True),
        ((1, 8), False),
        ((2, 3), True),  # around none
        ((13, 14), True),
        ((14, 17), True),  # into the decoder
        ((8, 17), True),
        ((7, 17), False),
        ((0, 17), False),
    ],
)
def test_a_path_leads_around_at_most_one_transition(place: tuple[int, int], may_be: bool) -> None:
    assert (place in path.PLACES) == may_be


def test_every_pair_of_slots_that_may_be_is_a_place() -> None:
    stages = [0] + 3 * [1] + 4 * [2] + 6 * [3] + 4 * [4]
    assert len(stages) == 18
    pairs = [(source, target) for target in range(18) for source in range(target)]
    assert sorted(path.PLACES) == sorted(pair for pair in pairs if stages[pair[1]] - stages[pair[0]] <= 1)


def test_the_backbone_has_the_size_of_the_source() -> None:
    """24.96 million at the full width; the decoder and normalisation are part of it."""
    with torch.device("meta"):
        assert round(parameters_in(path.make(Plan("path", COLOURED, 10, 1.0))) / 1e6, 2) == 24.96


def test_a_narrow_network_keeps_four_channels() -> None:
    network = SlotNetwork(plan_of("path", width=1 / 256), 18, path.TRANSITIONS)
    assert network.channels == [4, 4, 4, 4, 8]


def test_the_stem_keeps_the_side_and_transitions_halve_it() -> None:
    """Down to one pixel: of 8 pixels a side, 4, 2, 1, 1."""
    network = start_network(plan_of("path"), 15, 0)
    assert isinstance(network, SlotNetwork)
    found = network.stem(images_of(GREY))
    sides = [found.shape[-1]]
    for layer in network.backbone.values():
        found = layer(found)
        sides.append(found.shape[-1])
    assert sides == [8, 4, 2, 1, 1]


def test_shuffle_has_one_place_in_every_position_but_transitions() -> None:
    assert len(shuffle.PLACES) == 38 - 4
    assert all(target == source + 1 for source, target in shuffle.PLACES)
    assert not {target for _, target in shuffle.PLACES} & {1, 8, 18, 34}


def test_shuffle_fills_what_was_never_used_and_then_what_was_unused_for_longest() -> None:
    free, emptied = [(1, 2), (2, 3), (3, 4), (4, 5)], {(2, 3): 30, (4, 5): 10, (3, 4): 20}
    assert shuffle.longest_unused(free, emptied, 1) == [(1, 2)]
    assert shuffle.longest_unused(free, emptied, 2) == [(1, 2), (4, 5)]
    assert shuffle.longest_unused(free[1:], emptied, 1) == [(4, 5)]
    assert shuffle.longest_unused(free, {}, 1) == free


def test_sequential_leads_only_from_layer_to_later_layer() -> None:
    layers = {0: 0, **{block: 1 + (block - 1) // 3 for block in range(1, 10)}, 10: 4}
    pairs = [(source, target) for target in range(11) for source in range(target)]
    allowed = {pair for pair in pairs if layers[pair[0]] < layers[pair[1]]} - {(0, 10)}
    assert set(sequential.PLACES) == allowed and len(allowed) == 9 + 27 + 9


def test_sequential_computes_what_is_on_a_way_through() -> None:
    places = [(0, 1), (1, 4), (4, 10), (0, 2), (5, 10), (2, 5), (3, 6), (0, 7)]
    assert sequential.in_use(places) == [(0, 1), (1, 4), (4, 10), (0, 2), (5, 10), (2, 5)]


def test_a_block_of_sequential_takes_the_weighted_sum() -> None:
    network = bare_network(plan_of("sequential"), [(0, 1), (0, 4), (1, 4), (4, 10)]).eval()
    for place, scalar in {(0, 1): 0.5, (0, 4): -2.0, (1, 4): 3.0, (4, 10): 0.25}.items():
        network.path(place).scalar.data.fill_(scalar)
    image = images_of(GREY).expand(-1, 3, -1, -1)
    blocks = network.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleDict)
    first = blocks["1"](0.5 * image)
    second = blocks["4"](-2 * image + 3 * first)
    logits = network.get_submodule("decoder")((0.25 * second).flatten(1))
    assert torch.allclose(network(images_of(GREY)), logits, atol=1e-5)


def test_sequential_without_a_way_through_gives_the_same_logits_for_all() -> None:
    network = bare_network(plan_of("sequential"), [(0, 1), (4, 10)]).eval()
    assert torch.equal(*network(images_of(GREY, 2)))


def test_its_blocks_have_nine_channels_inside() -> None:
    """3→9→9→3, 3×3, and a scale and a bias of normalisation for each channel: 1,257 parameters."""
    network = bare_network(plan_of("sequential"), [])
    blocks = network.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleDict)
    assert len(blocks) == 9
    expected = 9 * (3 * 9 + 9 * 9 + 9 * 3) + 2 * (9 + 9 + 3)
    assert {parameters_in(block) for block in blocks.values()} == {expected}


# --- files


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    place = str(tmp_path / "one")
    save_plastic(place, start_network(plan_of("path"), 15, 0))
    about = json.loads(Path(f"{place}.json").read_text())
    for changed, message in (
        ({"kind": "heads"}, "is no network with plastic paths"),
        ({"places": about["places"][1:]}, "and its tensors do not fit"),
        ({"plan": {}}, "and its tensors do not fit"),
    ):
        Path(f"{place}.json").write_text(json.dumps({**about, **changed}))
        with pytest.raises(UserError, match=message):
            load_plastic(place)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no network"):
        load_plastic(str(tmp_path / "one"))


def test_a_path_without_a_body_has_no_weights() -> None:
    assert PlasticPath(nn.Identity(), 0.5).weights == []
