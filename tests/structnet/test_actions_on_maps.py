"""What every growth action must do, on networks of feature maps: the conformance test over the registry again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.action_cases import PRESERVING, reopened
from helpers.action_conformance import check_conformance, check_role, check_twins
from helpers.examples import FEW
from helpers.map_action_cases import MapCase, in_training, make_maps, map_cases
from hypothesis import assume, given
from hypothesis import strategies as st

from structnet.actions import ACTIONS, action_of, ascent, base
from structnet.network.architecture import sizes_of
from structnet.network.edit import fold
from structnet.network.state import TrainState

EVERY = sorted(ACTIONS)
# Those that add units, or bring dead ones back.
PLANNED_BY_SAMPLE = ["highway", "insert_layer", "patch", "residual_block", "restart", "widen"]
SEEN_BY_ALL = ("2@6,3x3,3@6,3@3,4,3", "1@5,3x3,2@5,flat,3@3x5,3", "2@4x7,3x3,3@4x7,2@4x3,5,3")


def eventful_maps(*, normalised: bool) -> MapCase:
    """Inputs 0, 1; maps 2 … 5 of 7 × 7 and 6 … 8 of 4 × 4, of which 4 and 7 never fire; 9 … 13 plain."""
    shape = sizes_of("2@7,3x3,4@7,3@4,flat,5,3")
    case = make_maps(5, shape, normalised=normalised, share=0.5, bias=0.5)
    with torch.no_grad():
        for unit in (4, 7):
            case.network.values[case.network.topology.bias_of(np.array([unit]))] = -50.0
    assert {4, 7} <= {*np.flatnonzero(case.context().silent).tolist()}
    return case


@pytest.mark.parametrize("name", EVERY)
@FEW
@given(case=map_cases())
def test_conforms_on_maps(case: MapCase, name: str) -> None:
    check_conformance(case, name)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_conforms_where_maps_are_dead(name: str, normalised: bool) -> None:
    check_conformance(eventful_maps(normalised=normalised), name)


@pytest.mark.parametrize("name", EVERY)
def test_where_maps_are_dead_all_have_proposals_of_their_role_with_twins_as_large(name: str) -> None:
    case = eventful_maps(normalised=True)
    assert ACTIONS[name].propose(case.context())
    check_role(case, ACTIONS[name])
    check_twins(case, ACTIONS[name])


@pytest.mark.parametrize("name", PLANNED_BY_SAMPLE)
@FEW
@given(case=map_cases())
def test_conforms_where_only_some_images_are_looked_at(case: MapCase, name: str) -> None:
    """As where maps have many positions: what is planned by a sample is as exact where it has to be."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(base, "SAMPLES", 8)
        patched.setattr(base, "FEWEST_IMAGES", 5)
        patched.setattr(ascent, "LARGEST", 1000)
        sample = case.context().sample
        assert sample.activations[-1].shape[1] < len(case.images)
        check_conformance(case, name)


def test_nothing_else_is_planned_by_a_sample() -> None:
    """Or the test above would have to try it."""
    case, looked = eventful_maps(normalised=True), []
    for name in EVERY:
        context = case.context()
        ACTIONS[name].propose(context)
        looked += [name] if "sample" in vars(context) else []
    assert looked == PLANNED_BY_SAMPLE


def test_the_gradient_of_a_sample_is_that_of_all_images() -> None:
    """Where every image is there three times, and one of three is looked at."""
    case = make_maps(1, sizes_of("2@6,3@6,3@3,3"), normalised=True, share=0.5)
    case = replace(case, images=case.images.repeat_interleave(3, 0), labels=case.labels.repeat_interleave(3))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(base, "SAMPLES", 24 * 36)
        patched.setattr(base, "FEWEST_IMAGES", 1)
        sample = case.context().sample
    assert sample.activations[-1].shape[1] == 24
    for pair in case.network.topology.links:
        assert sample.outer(*pair).numpy() == pytest.approx(case.diagnosis.outer(*pair).numpy())


@pytest.mark.parametrize("name", PRESERVING)
@FEW
@given(case=map_cases(dtypes=(torch.float64,)))
def test_gradients_in_training_are_foreseen_and_kept(case: MapCase, name: str) -> None:
    """The predicted gain is by the gradient of what is new, and what survives has the one it had."""
    before = case.gradient(case.network)
    for proposal in case.proposals(name):
        edit = action_of(proposal.action).apply(case.network, proposal)
        after = case.gradient(edit.network)
        given_a_step = np.union1d(edit.new, reopened(case, edit, proposal))
        expected = 1e-3 * np.abs(after[given_a_step]).sum() / np.log(2)
        assert proposal.predicted_gain == pytest.approx(expected, rel=1e-6, abs=1e-14)
        # A unit and its copy share one, and what is opened again had none.
        if name == "clone" or {"reopened", "passed"} & {*proposal.plan}:
            continue
        kept = np.flatnonzero(edit.origin >= 0)
        assert after[kept] == pytest.approx(before[edit.origin[kept]], abs=1e-11)


@pytest.mark.parametrize("name", sorted({*PRESERVING} - {"highway", "restart"}))  # which are for dead units
@FEW
@given(shape=st.sampled_from(SEEN_BY_ALL), seed=st.integers(0, 10**6), normalised=st.booleans())
def test_every_new_parameter_of_maps_gets_a_gradient(
    shape: str, seed: int, normalised: bool, name: str
) -> None:
    # All units fire nearly everywhere, and no tap sees the border alone, so nothing is excused.
    case = make_maps(seed, sizes_of(shape), normalised=normalised, bias=6.0)
    network = fold(case.network).network
    case = replace(case, state=TrainState.fresh(network))
    hidden = network.topology.hidden
    assume((case.diagnosis.firing_rate[hidden] > 0.9).all())
    found = ACTIONS[name].propose(case.context())
    every = 1 + len(found) // 6
    for proposal in found[seed % every :: every]:
        edit = ACTIONS[name].apply(network, proposal)
        values, topology = edit.network.values.detach(), edit.network.topology
        first = case.gradient(edit.network)
        # A tap whose source is 0 wherever its new map fires and is heard waits until that is elsewhere; biases do not.
        may_wait = np.zeros(len(values), dtype=bool)
        may_wait[: topology.connections] = np.isin(topology.target, edit.new_units)
        may_wait &= (values != 0).numpy()
        # So short that no logit leaves the others far behind, whose gradients would be 0.
        step = 1e-5 / max(1.0, np.abs(first[edit.new]).max())
        values[edit.new] -= step * torch.from_numpy(first[edit.new])
        touched = np.abs(first) + np.abs(case.gradient(edit.network)) > 0
        assert (touched | may_wait)[edit.new].all(), proposal.site


@FEW
@given(case=map_cases(), name=st.sampled_from(EVERY))
def test_the_same_stream_proposes_the_same_on_maps(case: MapCase, name: str) -> None:
    once, again = (ACTIONS[name].propose(case.context()) for _ in range(2))
    assert [(one.site, one.predicted_gain) for one in once] == [
        (one.site, one.predicted_gain) for one in again
    ]
    for one, other in zip(once, again):
        assert all(np.array_equal(one.plan[key], other.plan[key]) for key in one.plan)


@pytest.mark.parametrize("normalised", [False, True])
def test_copies_of_a_map_part(normalised: bool) -> None:
    case = make_maps(3, sizes_of("1@6,3@6,3@3,3"), normalised=normalised, share=0.5, bias=0.5)
    proposal = ACTIONS["clone"].propose(case.context())[0]
    edit = ACTIONS["clone"].apply(case.network, proposal)
    unit, copy = int(edit.number_now(proposal.plan["units"])[0]), int(edit.new_units[0])
    state = TrainState.fresh(edit.network)
    group = int(edit.network.topology.group_of(copy))

    def difference() -> float:
        seen = replace(case, state=state).diagnosis.activations[group]
        one, other = (seen[number - edit.network.topology.offsets[group]] for number in (unit, copy))
        return float((one - other).abs().max())

    assert difference() <= 1e-12
    for _ in range(60):
        gradient = torch.from_numpy(case.gradient(state.network))
        state.optimizer.update(state.network.values.detach(), gradient, 1e-3)
    assert difference() > 0.001


def test_a_map_that_only_training_silences_stays() -> None:
    """Silent is what fires nowhere in use either: else the output would change."""
    case = eventful_maps(normalised=True)
    statistics, unit = case.network.statistics, 4
    assert statistics is not None
    assert case.context().silent[unit]
    statistics[0, unit - 2] = -100.0
    assert case.diagnosis.firing_rate[unit] == 0
    assert not case.context().silent[unit]
    found = [
        proposal for name in ("restart", "highway") for proposal in ACTIONS[name].propose(case.context())
    ]
    assert not any(unit in proposal.plan["dead"] for proposal in found)


def test_new_maps_have_the_statistics_that_training_gives_them() -> None:
    case = in_training(
        make_maps(4, sizes_of("2@7,4@5,3@3,3"), normalised=True).network, np.random.default_rng(0)
    )
    for proposal in ACTIONS["widen"].propose(case.context()):
        edit = ACTIONS["widen"].apply(case.network, proposal)
        new = edit.new_units - edit.network.topology.hidden.start
        found = replace(case, state=TrainState.fresh(edit.network)).diagnosis
        assert found.statistics is not None
        assert edit.network.statistics is not None
        assert found.statistics[:, new] == pytest.approx(edit.network.statistics[:, new].numpy(), rel=1e-9)
        assert (found.firing_rate[edit.new_units] >= 0.1).all()
