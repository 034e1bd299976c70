"""Actions that reach past a neighbouring group, GradMax and bottlenecks, on networks where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.action_cases import Case, change_of_output, eventful, make

from structnet.actions import ACTIONS
from structnet.actions.base import Context, Proposal, unlinked_pairs
from structnet.actions.firing import threshold
from structnet.actions.highway import ends
from structnet.actions.new_units import plan_units
from structnet.actions.proportional import shares
from structnet.actions.reading import Reading
from structnet.measure.diagnosis import bottlenecks, diagnose
from structnet.network.activations import activation_named, gain_of
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology


def applied(case: Case, proposal: Proposal) -> Edit:
    edit = ACTIONS[proposal.action].apply(case.network, proposal)
    assert edit.added == proposal.parameters_added
    # Within 1e-12 on the images that were diagnosed: these networks are float64.
    assert change_of_output(case, edit) <= 1
    return edit


def trained(case: Case, edit: Edit, steps: int = 100) -> StructNet:
    """The edited network after so many steps of a fresh Adam at 1e-3 on all the images."""
    state = TrainState.fresh(edit.network.fork())
    for _ in range(steps):
        gradient = torch.from_numpy(case.gradient(state.network))
        state.optimizer.update(state.network.values.detach(), gradient, 1e-3)
    return state.network


# --- highway


@pytest.mark.parametrize(
    ("groups", "group", "expected"),
    [
        (4, 1, ([0], [3])),
        (4, 2, ([0], [3])),
        (6, 1, ([0], [3, 4, 5])),
        (6, 3, ([0, 1], [5])),
        (6, 4, ([0, 1, 2], [5])),
    ],
)
def test_a_highway_bypasses_the_neighbours(
    groups: int, group: int, expected: tuple[list[int], list[int]]
) -> None:
    assert ends(groups, group) == expected


def test_a_dead_unit_becomes_a_highway() -> None:
    case = eventful()
    old, dead_units = case.network.topology, set(case.diagnosis.dead.tolist())
    proposals = ACTIONS["highway"].propose(case.context())
    assert {proposal.plan["group"] for proposal in proposals} == {1, 2}
    for proposal in proposals:
        group, dead = proposal.plan["group"], proposal.plan["dead"]
        assert dead_units.issuperset(dead)
        assert proposal.site == f"{len(dead)} dead units of group {group}: 0→{group}→3"
        held = int((old.fan_in()[dead] + old.fan_out()[dead]).sum())
        edit = applied(case, proposal)
        assert proposal.connections_moved == held
        assert edit.freed == held + len(dead)
        assert not np.isin(dead, edit.unit_origin).any()
        new, after = edit.network.topology, diagnose(edit.network, case.images, case.labels)
        assert new.architecture == old.architecture
        assert (new.group_of(edit.new_units) == group).all()
        fan_in, fan_out = np.isin(new.target, edit.new_units), np.isin(new.source, edit.new_units)
        assert set(new.group_of(new.source[fan_in])) == {0}
        assert set(new.group_of(new.target[fan_out])) == {3}
        assert (after.firing_rate[edit.new_units] >= 0.1).all()
        assert (after.gradient[np.flatnonzero(fan_out)] != 0).all()
        later = diagnose(trained(case, edit, 2), case.images, case.labels)
        assert (later.gradient[np.flatnonzero(fan_in)] != 0).all()


def test_the_size_of_a_highway_comes_on_top_of_what_the_unit_held() -> None:
    proposals = ACTIONS["highway"].propose(eventful().context())
    of_17 = [proposal for proposal in proposals if proposal.plan["dead"].tolist() == [17]]
    # It held 8 connections; the second gets all there are, from 12 inputs and to 4 outputs.
    assert [proposal.parameters_added for proposal in of_17] == [4, 8]
    assert [(len(found.plan["source"]), len(found.plan["target"])) for found in of_17] == [(8, 4), (12, 4)]


def test_without_a_dead_unit_there_is_no_highway() -> None:
    case = make([12, 8, 6, 4], seed=3, bias=4.0)
    assert not len(case.diagnosis.dead)
    assert ACTIONS["highway"].propose(case.context()) == []
    # A unit that fires on a few images is as good as dead, but what it says on these would be lost.
    assert ACTIONS["highway"].propose(eventful("sigmoid").context()) == []


def test_without_a_group_to_bypass_a_dead_unit_is_only_restarted() -> None:
    case = make([12, 8, 4], seed=3, bias=1.0)
    with torch.no_grad():
        case.network.values[case.network.connection_count + 5] = -50.0
    assert case.diagnosis.dead.tolist() == [17]
    assert ACTIONS["highway"].propose(case.context()) == []
    proposals = ACTIONS["restart"].propose(case.context())
    assert proposals
    for proposal in proposals:
        assert proposal.site == "1 dead units of group 1: 0→1→2"
        edit = applied(case, proposal)
        new = edit.network.topology
        assert new.architecture == case.network.topology.architecture
        assert new.connections - case.network.topology.connections == proposal.parameters_added
        after = diagnose(edit.network, case.images, case.labels)
        assert (after.firing_rate[edit.new_units] >= 0.1).all()
        assert (after.gradient[np.isin(new.source, edit.new_units).nonzero()[0]] != 0).all()


# --- skip, proportional


def test_a_skip_takes_the_largest_gradients_of_links_that_are_not_there() -> None:
    case = make([8, 6, 5, 3], seed=1, activation="tanh")
    assert unlinked_pairs(case.network.topology) == [(0, 2), (0, 3), (1, 3)]
    proposals = {proposal.site: proposal for proposal in ACTIONS["skip"].propose(case.context())}
    assert len(proposals) == 12
    for source, target in ((0, 2), (0, 3), (1, 3)):
        plan = proposals[f"new link {source}→{target}: 9 by gradient"].plan
        expected = case.diagnosis.absent(source, target, 9)
        assert plan["source"].tolist() == expected[0].tolist()
        assert plan["target"].tolist() == expected[1].tolist()
    together = proposals["all new links: 9 by gradient"]
    assert all(
        together.predicted_gain >= other.predicted_gain
        for other in proposals.values()
        if other.parameters_added == 9
    )
    edit = applied(case, together)
    assert (edit.network.values.detach()[edit.new] == 0).all()
    assert (case.gradient(edit.network)[edit.new] != 0).all()


def test_where_all_groups_are_joined_there_is_nothing_to_skip() -> None:
    case = make([6, 4, 3], seed=1)
    assert {proposal.site.split(":")[0] for proposal in ACTIONS["skip"].propose(case.context())} == {
        "new link 0→2"
    }
    network = connect(case.network, np.array([0]), np.array([12])).network
    joined = Case(TrainState.fresh(network), case.images, case.labels)
    assert ACTIONS["skip"].propose(joined.context()) == []


def test_shares_are_in_proportion_and_within_the_room() -> None:
    def shared(total: int, weight: list[int], room: list[int]) -> list[int]:
        return shares(total, np.array(weight), np.array(room)).tolist()

    assert shared(12, [1, 2, 3], [100, 100, 100]) == [2, 4, 6]
    assert shared(12, [1, 2, 3], [100, 100, 3]) == [3, 6, 3]
    assert shared(12, [1, 2, 3], [1, 2, 3]) == [1, 2, 3]
    assert shared(0, [1, 2], [5, 5]) == [0, 0]
    assert sum(shared(10, [3, 3, 3], [9, 9, 9])) == 10


def test_proportional_growth_shares_by_the_sizes_of_the_groups() -> None:
    case = make([12, 9, 8, 6], density=0.2, seed=2, activation="tanh")
    proposals = {found.site: found for found in ACTIONS["proportional"].propose(case.context((105,)))}
    growing = proposals["6 links at growing density: 105 by gradient"]
    edit = applied(case, growing)
    old, new = case.network.topology, edit.network.topology
    # n_in + n_out of each; together they are 105.
    for pair, count in {(0, 1): 21, (1, 2): 17, (2, 3): 14, (0, 2): 20, (0, 3): 18, (1, 3): 15}.items():
        span = old.links.get(pair, slice(0, 0))
        assert new.links[pair].stop - new.links[pair].start - (span.stop - span.start) == count
        source, target, _ = case.diagnosis.absent(*pair, count)
        assert new.has(*(edit.number_now(unit) for unit in (source, target))).all()
    assert new.density > old.density


def test_constant_density_is_kept_while_more_becomes_possible() -> None:
    case = make([8, 6, 4, 3], density=0.3, seed=2, activation="tanh")
    old = case.network.topology
    proposals = ACTIONS["proportional"].propose(case.context((63,)))
    (constant,) = [proposal for proposal in proposals if "constant" in proposal.site]
    assert constant.parameters_added == round(0.3 * (8 * 4 + 8 * 3 + 6 * 3))
    new = applied(case, constant).network.topology
    assert new.possible() == old.possible() + 74
    assert new.density == pytest.approx(old.density, abs=0.5 / new.possible())
    # 5 connections are enough for the smallest of the new links only: 1→3, of 18 places.
    (small,) = [
        found for found in ACTIONS["proportional"].propose(case.context((5,))) if "constant" in found.site
    ]
    assert small.parameters_added == 5
    assert unlinked_pairs(applied(case, small).network.topology) == [(0, 2), (0, 3)]


# --- clone vertical


def test_a_vertical_copy_says_the_same_and_then_parts() -> None:
    case = eventful()
    proposals = ACTIONS["clone_vertical"].propose(case.context())
    assert {proposal.site for proposal in proposals} == {
        "saturated units (1) of group 1, copied into group 2"
    }
    edit = applied(case, proposals[0])
    unit, copy = int(edit.number_now(13)[0]), int(edit.new_units[0])
    topology = edit.network.topology
    assert topology.group_of(copy) == 2
    assert topology.source[topology.target == copy].tolist() == [unit]
    assert np.array_equal(
        edit.number_now(case.network.topology.target[case.network.topology.source == 13]),
        topology.target[(topology.source == unit) & (topology.target != copy)],
    )
    at_first = difference(edit.network, case, unit, copy)
    assert at_first == 0
    gradient = case.gradient(edit.network)
    of_unit, of_copy = np.flatnonzero(topology.target == unit), np.flatnonzero(topology.source == copy)
    assert (gradient[of_unit] != 0).any()
    assert (gradient[of_copy] != 0).all()
    assert difference(trained(case, edit), case, unit, copy) > 0.01


def difference(network: StructNet, case: Case, unit: int, copy: int) -> float:
    """The largest difference of two units of groups 1 and 2."""
    found = diagnose(network, case.images, case.labels)
    offsets = network.topology.offsets
    return float(
        (found.activations[1][unit - offsets[1]] - found.activations[2][copy - offsets[2]]).abs().max()
    )


def test_only_an_idempotent_activation_can_be_copied_upwards() -> None:
    for activation in ("tanh", "sigmoid"):
        for name in ("clone_vertical", "residual_block"):
            assert ACTIONS[name].propose(make([12, 8, 6, 4], activation=activation).context()) == []


# --- residual block


def test_a_residual_block_is_two_groups() -> None:
    case = make([5, 4, 3], density=1.0, seed=1, bias=1.0)
    proposals = ACTIONS["residual_block"].propose(case.context((24,)))
    (proposal,) = proposals
    edit = applied(case, proposal)
    inner, sums = len(proposal.plan["biases"]), len(proposal.plan["units"])
    assert proposal.site == f"around {sums} units of group 1: {inner} inner units"
    assert edit.network.architecture == [5, 4, inner, sums, 3]
    links, values = edit.network.links, edit.network.values.detach()
    assert (
        {(0, 1), (1, 2), (1, 3), (2, 3), (3, 4)}
        <= set(links)
        <= {(0, 1), (1, 2), (1, 3), (1, 4), (2, 3), (3, 4)}
    )
    identity = links[1, 3].dense(values[links[1, 3].span])
    assert torch.equal(identity, torch.eye(4, dtype=torch.float64)[proposal.plan["units"] - 5])
    assert (values[links[2, 3].span] == 0).all()
    assert (values[links[1, 2].span] != 0).all()
    # What comes after hears the sums alone: F is in all that is said of these units.
    assert not np.isin(
        edit.network.topology.source[links.get((1, 4), links[0, 1]).span], proposal.plan["units"]
    ).any()
    network = trained(case, edit, 2)
    assert (network.values.detach()[links[2, 3].span] != 0).all()
    assert (case.gradient(network)[links[1, 2].span] != 0).any()


# --- GradMax


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_gradmax_beats_a_thousand_random_fans_in(activation: str) -> None:
    for seed in range(4):
        mine, best_of_random = against_random(activation, 30, seed)
        assert mine >= best_of_random
    # The few sources of a sparse fan-in can be hit by chance: there it has to win over several networks together.
    mine, best_of_random = np.sum([against_random(activation, 5, seed) for seed in range(8)], axis=0)
    assert mine >= best_of_random


def against_random(activation: str, fan_in: int, seed: int) -> tuple[float, float]:
    """The gradient norm of a unit by GradMax, and the largest of 1,000 random ones of the same norm."""
    case = make([30, 10, 4], density=0.4, seed=seed, activation=activation)
    rng = np.random.default_rng(seed)
    column = rng.random((1000, 30)).argsort(axis=1)[:, :fan_in]
    value = rng.standard_normal((1000, fan_in))
    value *= np.sqrt(gain_of(activation)) / np.linalg.norm(value, axis=1, keepdims=True)
    plan = plan_units(case.context(), [0], [2], count=1, fan_in=fan_in, fan_out=4, rule="gradmax")
    assert plan is not None
    assert len(plan.source) == fan_in
    assert np.linalg.norm(plan.value) == pytest.approx(np.sqrt(gain_of(activation)))
    mine = float(strengths(case, plan.source[None], plan.value[None])[0])
    assert mine == pytest.approx(np.linalg.norm(plan.gradient))
    return mine, float(strengths(case, column, value).max())


def strengths(case: Case, column: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(rows,) norm of the gradient of the fan-out, to the output, of units with these fans-in from the input."""
    diagnosis = case.diagnosis
    state = Reading(diagnosis, [0], 1).sums(column, value)
    fires = activation_named(case.network.activation).apply(state - threshold(state)[:, None])
    error = diagnosis.errors[2]
    assert error is not None
    return (fires @ error.t()).norm(dim=1).numpy()


def test_units_by_gradmax_are_not_alike() -> None:
    case = make([30, 10, 8], density=0.4, seed=1)
    plan = plan_units(case.context(), [0], [2], count=7, fan_in=10, fan_out=4, rule="gradmax")
    assert plan is not None
    assert 2 <= len(plan.biases) <= 7
    fans = np.zeros((len(plan.biases), 30))
    fans[plan.source_unit, plan.source] = plan.value
    cosine = fans @ fans.T / gain_of("relu")
    assert np.diag(cosine) == pytest.approx(1)
    assert np.abs(cosine - np.diag(np.diag(cosine))).max() <= 0.95


# --- bottlenecks


def with_extrema(saturated: list[int], dead: list[int]) -> Context:
    """Hidden groups of 10 and 5 units, 6 … 15 and 16 … 20, of which these are said to be at an extremum."""
    context = make([6, 10, 5, 3], density=0.6, seed=1, bias=3.0).context()
    found = replace(context.diagnosis)
    # In the place of what would be computed when it is asked for.
    vars(found).update(saturated=np.array(saturated, int), dead=np.array(dead, int))
    return replace(context, diagnosis=found)


def test_a_bottleneck_has_many_units_at_an_extremum() -> None:
    assert bottlenecks(with_extrema([], []).diagnosis) == []
    assert bottlenecks(with_extrema([6], [7, 8]).diagnosis) == []  # 0.3 is not above 0.3
    assert bottlenecks(with_extrema([6], [7, 8, 9]).diagnosis) == [1]
    assert bottlenecks(with_extrema([6, 16], [7, 8, 9, 17]).diagnosis) == [1, 2]
    assert bottlenecks(with_extrema([6, 16], [7, 8, 9, 17, 18]).diagnosis) == [2, 1]
    assert bottlenecks(with_extrema([6, 16], [7, 8, 9, 17, 18]).diagnosis, above=0.5) == [2]


def test_a_layer_is_proposed_at_a_bottleneck_first() -> None:
    sites = [found.site for found in ACTIONS["insert_layer"].propose(with_extrema([], []))]
    assert {site.split(":")[0] for site in sites} == {"after group 1", "after group 2"}
    sites = [found.site for found in ACTIONS["insert_layer"].propose(with_extrema([16], [20]))]
    assert {site.split(":")[0] for site in sites} == {"bottleneck, after group 2"}


def test_a_bottleneck_without_a_site_leaves_it_to_the_others() -> None:
    topology, _ = Topology.sorted([2, 2, 2, 2], np.array([0, 1, 2, 3, 2, 3]), np.array([2, 3, 4, 5, 6, 7]))
    values = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0, -9, -9, 0, 0], dtype=torch.float64)
    rng = np.random.default_rng(0)
    images, labels = torch.from_numpy(rng.random((40, 2))), torch.from_numpy(rng.integers(0, 2, 40))
    case = Case(TrainState.fresh(StructNet.from_parts(topology, values)), images, labels)
    assert bottlenecks(case.diagnosis) == [2]
    sites = [found.site for found in ACTIONS["insert_layer"].propose(case.context())]
    assert {site.split(":")[0] for site in sites} == {"after group 1"}
