"""Cliff rescue: the arms differ in what they are meant to differ in, and in nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import flat, small_data

from structnet.actions import growing, patch
from structnet.actions.base import Context, Proposal
from structnet.errors import UserError
from structnet.experiments.rescue import (
    ARMS,
    ArmResult,
    Rescue,
    RescuePlan,
    accuracies_of,
    best_site,
    growth_moments,
    rescue,
)
from structnet.experiments.rescue_controls import moved, random_places, values_like_an_action
from structnet.experiments.verdict import judge
from structnet.measure.diagnosis import diagnose
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.seeds import stream
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

RECIPE = Recipe(batch_size=12, input_dropout=0.1)
BUDGET = 23
DATA = small_data()


def plan(**changes: Any) -> RescuePlan:
    options: dict[str, Any] = {
        "architecture": (16, 10, 3),
        "density": 0.15,
        "mechanism": "patch",
        "budget": BUDGET,
        "rng_seed": 3,
        "epochs": 8,
        "growths": 3,
        "learning_rate": 0.01,
        "recipe": RECIPE,
    }
    return RescuePlan(**(options | changes))


def run(asked: RescuePlan) -> dict[str, ArmResult]:
    test = Rescue(DATA, asked)
    while not test.step()["done"]:
        pass
    return {result.arm: result for result in test.results}


def sums(result: ArmResult) -> dict[int, int]:
    """Step -> parameters added there."""
    added: dict[int, int] = {}
    for change in result.changes:
        added[change.step] = added.get(change.step, 0) + change.parameters_added
    return {step: count for step, count in added.items() if count}


def test_moments_lie_in_the_first_half() -> None:
    assert growth_moments(100, 5) == [10, 20, 30, 40, 50]
    assert growth_moments(40, 3) == [7, 13, 20]
    assert growth_moments(4, 5) == [1, 2]


def test_the_static_arm_is_plain_training() -> None:
    result = run(plan())["static"]
    network = StructNet([16, 10, 3], 0.15, rng_seed=3)
    state = TrainState.fresh(network)
    recipe = Recipe(batch_size=12, input_dropout=0.1, rng_seed=3)
    train_steps(state, DATA.train, recipe, 40, cosine(0.01, 0, 40))
    assert torch.equal(flat(result.network), flat(network))
    measured = evaluate(network, DATA.validation)
    assert (result.accuracy, result.loss) == (measured.accuracy, measured.loss)
    assert (result.steps, result.parameter_steps) == (40, 40 * network.parameter_count)
    assert result.changes == ()
    labels = np.bincount(DATA.validation.labels.numpy()) / 50
    entropy = -(labels * np.log2(labels)).sum()
    assert result.information == pytest.approx(entropy - measured.loss / np.log(2))


# The start has one hidden group, and a vertical clone and a highway need a second one.
@pytest.mark.parametrize("mechanism", sorted({*growing()} - {"clone_vertical", "highway"}))
def test_every_mechanism_adds_within_its_budget_and_random_adds_as_many(mechanism: str) -> None:
    arms = run(plan(mechanism=mechanism))
    start = StructNet([16, 10, 3], 0.15, rng_seed=3)
    growth, random = arms["growth"], arms["random"]
    added = growth.parameters - start.parameter_count
    assert 0 < added <= BUDGET
    assert sum(sums(growth).values()) == added
    assert random.network.connection_count == start.connection_count + added
    assert random.network.architecture == start.architecture
    # The same numbers at the same moments, all in the first half of 40 steps.
    assert sums(random) == sums(growth)
    assert set(sums(growth)) <= {7, 13, 20}
    assert {result.steps for result in arms.values()} == {40}


@pytest.mark.parametrize("mechanism", ["patch", "rewire_and_patch"])
def test_where_any_number_can_be_added_the_budget_is_spent_evenly(mechanism: str) -> None:
    arms = run(plan(mechanism=mechanism))
    assert sums(arms["growth"]) == {7: 7, 13: 8, 20: 8}
    before = StructNet([16, 10, 3], 0.15, rng_seed=3).parameter_count
    spent = 7 * before + 6 * (before + 7) + 7 * (before + 15) + 20 * (before + 23)
    assert arms["growth"].parameter_steps == arms["random"].parameter_steps == spent


def test_the_rewire_arm_moves_what_growth_adds_and_adds_nothing() -> None:
    arms = run(plan())
    result, start = arms["rewire"], StructNet([16, 10, 3], 0.15, rng_seed=3)
    # Growth adds 7, 8 and 8; of 28 connections 30 % are 8.
    assert [(change.step, change.connections_moved) for change in result.changes] == [
        (7, 7),
        (13, 8),
        (20, 8),
    ]
    assert {change.parameters_added for change in result.changes} == {0}
    assert result.parameters == start.parameter_count
    assert result.network.architecture == start.architecture
    elsewhere = ~start.topology.has(result.network.topology.source, result.network.topology.target)
    assert 8 <= np.count_nonzero(elsewhere) <= 23
    assert all(change.connections_moved == 0 for change in arms["growth"].changes + arms["random"].changes)


def test_moving_takes_the_weakest_to_the_largest_gradients() -> None:
    network = StructNet([16, 3], 0.5, rng_seed=0)
    state = TrainState.fresh(network)
    diagnosis = diagnose(network, DATA.train.images, DATA.train.labels)
    context = Context(state, diagnosis, (1,), 0.01, stream(0, "test"))
    edit = moved(context, 4)
    # Before the first step the magnitude alone says what is weakest.
    weakest = np.argsort(np.abs(flat(network)[:24].numpy()))[:4]
    assert set(range(24)) - set(edit.origin.tolist()) == set(weakest.tolist())
    source, target, _ = diagnosis.absent(0, 1, 4)
    assert edit.network.topology.has(source, target).all()
    assert (edit.added, len(edit.new_connections)) == (0, 4)
    assert (flat(edit.network)[edit.new_connections] == 0).all()
    # 30 % of 24 at most.
    assert len(moved(context, 24).new_connections) == 7


def test_arms_are_the_same_until_the_first_change() -> None:
    test = Rescue(DATA, plan())
    losses = {}
    while not test.done:
        said = test.step()
        if said["step"] == 7:
            losses[said["arm"]] = said["train_loss"]
    assert list(losses) == list(ARMS)
    assert len(set(losses.values())) == 1


def test_the_best_site_is_that_of_most_gain_per_parameter_that_fits() -> None:
    tiny, small, large, huge = (
        Proposal("patch", site, added, gain)
        for site, added, gain in (
            ("tiny", 1, 1.0),
            ("small", 5, 2.0),
            ("large", 10, 3.0),
            ("huge", 20, 90.0),
        )
    )
    frees = Proposal("patch", "frees", -4, 5.0)
    sites = [large, frees, tiny, huge, small]
    assert best_site(sites, 20, 5) is huge
    assert best_site(sites, 19, 5) is small
    assert best_site(sites, 19, 6) is large
    assert best_site(sites, 19, 1) is tiny
    # Where none is large enough, a small one is better than none.
    assert best_site(sites, 4, 3) is tiny
    assert best_site([huge, frees], 19, 1) is None


def test_a_site_adds_an_eighth_of_what_its_moment_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    propose = patch.propose

    def with_a_tiny_one(context: Context) -> list[Proposal]:
        found = propose(context)
        ends = {end: found[0].plan[end][:1] for end in ("source", "target")}
        return [*found, Proposal("patch", "tiny", 1, 1e9, plan=ends)]

    monkeypatch.setattr(patch, "propose", with_a_tiny_one)
    # A moment adds 20, so a site at least 3 while there is one, but of 7 each may come alone.
    assert run(plan(budget=60))["growth"].changes[0].site != "tiny"
    assert {change.site for change in run(plan(budget=21))["growth"].changes} == {"tiny"}


def test_the_same_plan_gives_the_same_networks() -> None:
    once, twice = run(plan(mechanism="widen")), run(plan(mechanism="widen"))
    for arm in ARMS:
        assert torch.equal(flat(once[arm].network), flat(twice[arm].network))
        assert once[arm].changes == twice[arm].changes


@pytest.mark.parametrize("stop_after", [0, 3, 6, 11, 15, 16])
def test_saved_anywhere_it_goes_on_to_the_bit(tmp_path: Path, stop_after: int) -> None:
    whole = run(plan())
    test = Rescue(DATA, plan())
    for _ in range(stop_after):
        test.step()
    test.save(tmp_path / "there")
    again = Rescue(DATA, plan())
    again.load(tmp_path / "there")
    said = again.step()
    while not again.done:
        said = again.step()
    assert said["done"] is True
    for result in again.results:
        expected = whole[result.arm]
        assert torch.equal(flat(result.network), flat(expected.network))
        assert np.array_equal(result.network.topology.source, expected.network.topology.source)
        ours, theirs = ({k: v for k, v in vars(r).items() if k != "network"} for r in (result, expected))
        assert ours == theirs
    assert [result.arm for result in again.results] == list(ARMS)


def test_a_step_says_only_what_json_can_hold() -> None:
    test = Rescue(DATA, plan())
    said = [test.step() for _ in range(16)]
    assert json.loads(json.dumps(said)) == said
    assert [row["step"] for row in said] == [7, 13, 20, 40] * 4
    assert [row["arm"] for row in said] == [arm for arm in ARMS for _ in range(4)]
    assert ["accuracy" in row for row in said] == [False, False, False, True] * 4
    assert [row["done"] for row in said] == [False] * 15 + [True]


def test_a_damaged_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    Rescue(DATA, plan()).save(tmp_path)
    with pytest.raises(UserError, match="another plan"):
        Rescue(DATA, plan(budget=5)).load(tmp_path)
    (tmp_path / "rescue.json").write_text("{}")
    with pytest.raises(UserError, match=r"rescue\.json cannot be read"):
        Rescue(DATA, plan()).load(tmp_path)
    with pytest.raises(UserError, match=r"rescue\.json cannot be read"):
        Rescue(DATA, plan()).load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "prune"}, "mechanism is 'prune', but must be one of patch"),
        ({"mechanism": "rewire"}, "mechanism is 'rewire'"),
        ({"budget": 0}, "budget is 0, but must be at least 1"),
        ({"growths": 0}, "growths is 0"),
        ({"budget": 163}, "budget is 163, but 28 of 190 connections exist already"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rescue(DATA, plan(**changes))


def test_the_function_runs_all_arms() -> None:
    options: dict[str, Any] = {"epochs": 8, "growths": 3, "learning_rate": 0.01, "recipe": RECIPE}
    results = rescue(DATA, [16, 10, 3], 0.15, "patch", BUDGET, 3, **options)
    expected = run(plan())
    assert [result.arm for result in results] == list(ARMS)
    assert all(torch.equal(flat(r.network), flat(expected[r.arm].network)) for r in results)
    assert accuracies_of([results, results]) == {arm: [expected[arm].accuracy] * 2 for arm in ARMS}


def test_random_places_are_absent_and_reach_links_without_connections() -> None:
    # 8-6-4 with three connections into the hidden group and none out of it.
    topology, _ = Topology.sorted([8, 6, 4], np.array([0, 1, 2]), np.array([8, 9, 10]))
    source, target = random_places(topology, 24, stream(0, "test"))
    assert len(set(zip(source.tolist(), target.tolist()))) == len(source) == 24
    assert not topology.has(source, target).any()
    # Shared by n_in + n_out, 14 to 10.
    assert np.bincount(topology.group_of(target)).tolist() == [0, 14, 10]


def test_random_places_fill_what_is_left() -> None:
    topology, _ = Topology.sorted([3, 2, 2], np.array([0]), np.array([3]))
    source, target = random_places(topology, 9, stream(0, "test"))
    assert len(source) == 9
    assert not topology.has(source, target).any()


def test_new_values_are_zero_only_where_zero_can_learn() -> None:
    # Two inputs, three hidden units (2, 3, 4), two outputs (5, 6); nothing hears unit 4.
    topology, _ = Topology.sorted([2, 3, 2], np.array([0, 0, 2]), np.array([2, 4, 5]))
    values = torch.cat([torch.ones(topology.connections), torch.zeros(topology.bias_count)])
    network = StructNet.from_parts(topology, values)
    images, labels = torch.tensor([[0.5, 1.0], [1.0, 0.2], [0.3, 0.9]]), torch.tensor([0, 1, 0])
    diagnosis = diagnose(network, images, labels)
    # Into a unit that fires and is heard; into two that nothing hears; from two units to an output.
    source = np.array([1, 1, 1, 2, 3])
    target = np.array([2, 3, 4, 6, 6])
    drawn = np.array(
        [values_like_an_action(network, diagnosis, source, target, stream(0, "test", n)) for n in range(4000)]
    )
    assert (drawn[0] != 0).tolist() == [False, True, True, False, False]
    # Variance 2 ÷ fan-in: the new connection is the only one of unit 3, and the second of unit 4.
    assert drawn[:, 1].var() == pytest.approx(2.0, rel=0.1)
    assert drawn[:, 2].var() == pytest.approx(1.0, rel=0.1)


def test_the_verdict_by_hand() -> None:
    accuracies = {
        "static": [0.2, 0.3, 0.2],
        "growth": [0.6, 0.8, 0.7],
        "random": [0.5, 0.6, 0.6],
        "rewire": [0.6, 0.7, 0.8],
    }
    verdict = judge(accuracies, 0.9, 0.1)
    # Differences .4, .5, .5: mean .46667, standard error .1 / 3; t at .975 with 2 degrees of freedom: 4.302653.
    static = verdict.leads["static"]
    assert static.mean == pytest.approx(1.4 / 3)
    assert static.low == pytest.approx(1.4 / 3 - 4.302653 * 0.1 / 3, abs=1e-6)
    assert static.high == pytest.approx(1.4 / 3 + 4.302653 * 0.1 / 3, abs=1e-6)
    # Differences .1, .2, .1: .13333 ± .14342, so not beyond doubt.
    assert verdict.leads["random"].low == pytest.approx(0.4 / 3 - 4.302653 * 0.1 / 3, abs=1e-6)
    assert not verdict.success
    assert verdict.reached == pytest.approx(0.7)
    assert verdict.edge == pytest.approx(0.5)
    assert verdict.beats_moving is False
    rescued, moving = verdict.sentences
    assert rescued.startswith(
        "rescued: no; over 3 rng_seeds growth reaches 0.7000, where 0.5000 is back over"
    )
    assert "static by +0.4667" in rescued and "random by +0.1333" in rescued and "rewire" not in rescued
    # Differences 0, .1, -.1: 0 ± 4.302653 · .1 / √3.
    assert (
        moving
        == "more than moving does: no; growth leads rewire by +0.0000 (95 % interval -0.2484 to +0.2484)"
    )
    assert list(verdict.leads) == ["static", "random", "rewire"]


CLEAR: dict[str, list[float]] = {
    "static": [0.2, 0.21, 0.2],
    "growth": [0.7, 0.71, 0.72],
    "random": [0.5, 0.51, 0.5],
}


def test_success_needs_both_leads_the_edge_and_several_seeds() -> None:
    assert judge(CLEAR, 0.9, 0.1).success
    assert judge(CLEAR, 0.9, 0.1).sentences[0].startswith("rescued: yes; ")
    # .71 is not half way from .5 to .95.
    assert not judge(CLEAR, 0.95, 0.5).success
    assert not judge(CLEAR | {"random": [0.7, 0.72, 0.71]}, 0.9, 0.1).success
    assert not judge(CLEAR | {"static": [0.7, 0.72, 0.71]}, 0.9, 0.1).success
    assert not judge(CLEAR, 0.9, 0.1, margin=0.3).success
    one = judge({arm: found[:1] for arm, found in CLEAR.items()}, 0.9, 0.1)
    assert not one.success
    assert (one.leads["random"].low, one.leads["random"].high) == (-np.inf, np.inf)


def test_what_static_reaches_by_itself_is_no_rescue() -> None:
    # Half way from .1 to .3 is .2, and static is at .2033; half way to .31 is .205.
    verdict = judge(CLEAR, 0.3, 0.1)
    assert not verdict.success
    assert verdict.sentences[0].endswith("there was nothing to rescue, as static reaches 0.2033")
    assert judge(CLEAR, 0.31, 0.1).success


def test_whether_growth_does_more_than_moving_is_told_apart() -> None:
    assert judge(CLEAR, 0.9, 0.1).beats_moving is None
    assert len(judge(CLEAR, 0.9, 0.1).sentences) == 1
    # Moving decides nothing about the rescue, nor the rescue about moving.
    above = judge(CLEAR | {"rewire": [0.9, 0.9, 0.9]}, 0.9, 0.1)
    assert (above.success, above.beats_moving) == (True, False)
    under = judge(CLEAR | {"random": [0.7, 0.72, 0.71], "rewire": [0.5, 0.5, 0.5]}, 0.9, 0.1)
    assert (under.success, under.beats_moving) == (False, True)
    assert under.sentences[1].startswith("more than moving does: yes; growth leads rewire by +0.2100")
    assert not judge(CLEAR | {"rewire": [0.5, 0.5, 0.5]}, 0.9, 0.1, margin=0.2).beats_moving


def test_incomplete_results_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be judged"):
        judge({"growth": [0.5], "static": [0.4]}, 0.9, 0.1)
    with pytest.raises(ValueError, match="cannot be judged"):
        judge(CLEAR | {"random": [0.5, 0.5]}, 0.9, 0.1)
