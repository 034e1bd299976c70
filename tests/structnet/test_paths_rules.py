"""Rules by which paths come and go: what a planted useless path and a planted useful place lead to, and what stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.modules.evaluation import Batch, evaluate_module
from structnet.modules.optimizer import ids_of
from structnet.paths.blocks import PlasticPath
from structnet.paths.evolution import Decision, History, Rules, change, judged
from structnet.paths.growth import GROWTHS, Growing, gradients_of_scalars
from structnet.paths.network import Place, Plan, PlasticNetwork
from structnet.paths.registry import VARIANTS, fresh_path, start_network
from structnet.paths.removal import REMOVALS, GradientRecord
from structnet.seeds import stream

torch.set_num_threads(1)

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits").reduced(64)


def network_of(variant: str = "path", budget: int | None = None, rng_seed: int = 0) -> PlasticNetwork:
    plan = Plan(variant, SHAPE, 10, 1 / 32)
    return start_network(plan, budget or VARIANTS[variant].budget, rng_seed)


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), 1e-3)


def rules_of(removal: str = "scalar", growth: str = "uniform", **changed: Any) -> Rules:
    given: dict[str, Any] = {
        "frequency": 1,
        "until": 0.75,
        "threshold": 0.3,
        "new_scalars": None,
        "rng_seed": 0,
    }
    return Rules(removal, growth, **{**given, **changed})


def batch_of(digits: Dataset, number: int = 0) -> Batch:
    part = digits.train.part(16 * number, 16 * number + 16)
    return part.images, part.labels


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    cross_entropy(network(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def changed(
    network: PlasticNetwork,
    optimizer: torch.optim.Optimizer,
    rules: Rules,
    history: History,
    step: int,
    digits: Dataset,
) -> list[Decision]:
    batches = [batch_of(digits, number) for number in range(2)]
    return change(network, optimizer, rules, history, step, batches, digits.validation)


def places_of(decisions: list[Decision]) -> tuple[list[Place], list[Place]]:
    """Of what went, and of what came."""
    gone = [one.place for one in decisions if one.is_removal]
    return gone, [one.place for one in decisions if not one.is_removal]


def buffers_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- which paths go


def test_the_rules_of_removal_by_hand() -> None:
    scalars = {(0, 1): -0.1, (1, 2): 0.2, (2, 3): 0.04, (3, 4): -0.9}
    gradients = {(0, 1): 3.0, (1, 2): 0.5, (2, 3): 2.0, (3, 4): 1.0}
    found = {name: rule.choose(scalars, gradients, 0.15) for name, rule in REMOVALS.items()}
    assert found == {
        "scalar": [((2, 3), 0.04)],
        "gradient": [((1, 2), 0.5)],
        "threshold": [((2, 3), 0.04), ((0, 1), 0.1)],
    }


@pytest.mark.parametrize("removal", ["scalar", "gradient"])
@pytest.mark.parametrize("has_weights", [False, True], ids=["zero weights", "weights"])
@pytest.mark.parametrize("variant", ["path", "shuffle"])
def test_a_useless_path_goes(digits: Dataset, variant: str, removal: str, has_weights: bool) -> None:
    """With a scalar of 0 nothing reaches its weights, so both rules see that it does nothing."""
    network, history = network_of(variant), History()
    planted = network.places[7]
    network.path(planted).scalar.data.zero_()
    if not has_weights:
        for weight in network.path(planted).body.parameters():
            weight.data.zero_()
    cross_entropy(network(batch_of(digits)[0]), batch_of(digits)[1]).backward()  # type: ignore[no-untyped-call]
    history.record.note(network)
    gone, _ = places_of(changed(network, adam(network), rules_of(removal), history, 1, digits))
    assert gone == [planted]


def test_a_connection_of_sequential_that_leads_nowhere_goes_by_its_gradient(digits: Dataset) -> None:
    network, history = network_of("sequential"), History()
    for place in [place for place in network.places if place[1] == 9 or place[0] == 9]:
        network.detach(place)
    network.attach((0, 9), fresh_path(network, (0, 9), 0.9, 0, 0))  # nothing reads block 9
    cross_entropy(network(batch_of(digits)[0]), batch_of(digits)[1]).backward()  # type: ignore[no-untyped-call]
    history.record.note(network)
    means = history.record.means(network)
    assert means[(0, 9)] == 0
    lowest = REMOVALS["gradient"].choose(network.scalars, means, 0.0)[0]
    assert lowest[1] == 0


def test_gradients_are_summed_over_weights_and_averaged_over_steps(digits: Dataset) -> None:
    network, record, by_hand = network_of(), GradientRecord(), dict[Place, list[float]]()
    for number in range(3):
        network.zero_grad()
        images, labels = batch_of(digits, number)
        cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        record.note(network)
        for place in network.places:
            named = network.path(place).body.named_parameters()
            weights = [value.grad for name, value in named if not name.endswith("bias")]
            by_hand.setdefault(place, []).append(sum(float(grad.abs().sum()) for grad in weights))
    found = record.means(network)
    for place, sums in by_hand.items():
        assert found[place] == pytest.approx(sum(sums) / 3, rel=1e-5)


def test_a_removed_path_is_judged_by_what_is_lost_without_it(digits: Dataset) -> None:
    network = network_of()
    train_step(network, adam(network), batch_of(digits))
    buffers, places = buffers_of(network), network.places
    leaving = [(places[0], 0.1), (places[4], 0.2)]
    found = judged(network, leaving, "scalar", digits.validation)
    assert_same(buffers_of(network), buffers)  # to the bit
    assert network.places == places and network.training
    for decision, (place, value) in zip(found, leaving):
        assert (decision.place, decision.value, decision.method) == (place, value, "scalar")
        assert decision.found is not None and decision.without is not None
        assert decision.found.loss == evaluate_module(network, digits.validation).loss
        with network.without(place):
            assert decision.without.loss == evaluate_module(network, digits.validation).loss
        assert decision.without.loss != decision.found.loss


# --- where paths come


def growing(
    network: PlasticNetwork, digits: Dataset, count: int, eligible: list[Place], useful: Place | None = None
) -> Growing:
    """With `useful`, paths anywhere else give nothing at all."""

    def fresh(place: Place) -> PlasticPath:
        path = fresh_path(network, place, 0.0, 0, 1)
        if useful is not None and place != useful:
            for parameter in path.body.parameters():
                parameter.data.zero_()
        return path

    batches = [batch_of(digits, number) for number in range(3)]
    return Growing(eligible, count, fresh, batches, stream(0, "test"))


def free_of(network: PlasticNetwork) -> list[Place]:
    return [place for place in VARIANTS[network.plan.variant].places if place not in network.places]


@pytest.mark.parametrize("number", [0, 5, 15])
def test_growth_by_gradient_finds_the_useful_place(digits: Dataset, number: int) -> None:
    network = network_of()
    eligible = free_of(network)[:16]
    grown = GROWTHS["gradient"](network, growing(network, digits, 1, eligible, eligible[number]))
    ((place, value, path),) = grown
    assert place == eligible[number] and value is not None and value > 0
    assert path.scalar.item() == 0 and any(bool(weight.any()) for weight in path.weights)


@pytest.mark.parametrize("variant", VARIANTS)
def test_growth_by_gradient_leaves_the_network_as_it_is(digits: Dataset, variant: str) -> None:
    network = network_of(variant)
    optimizer = adam(network)
    for number in range(2):
        train_step(network, optimizer, batch_of(digits, number))
    values, buffers = dict(network.named_parameters()), buffers_of(network)
    before = {name: value.detach().clone() for name, value in values.items()}
    gradients = {name: value.grad.clone() for name, value in values.items() if value.grad is not None}
    places = network.places
    GROWTHS["gradient"](network, growing(network, digits, 2, free_of(network)))
    after = dict(network.named_parameters())
    assert_same({name: value.detach() for name, value in after.items()}, before)
    assert_same({name: value.grad for name, value in after.items() if value.grad is not None}, gradients)
    assert_same(buffers_of(network), buffers)
    assert network.places == places and network.training


def test_the_gradient_of_a_scalar_is_the_slope_of_the_loss(digits: Dataset) -> None:
    network = network_of().double()
    place = free_of(network)[3]
    batches = [(images.double(), labels) for images, labels in (batch_of(digits, one) for one in range(2))]
    path = fresh_path(network, place, 0.0, 0, 1).double()
    slope = gradients_of_scalars(network, {place: path}, batches)[place]

    def loss(scalar: float) -> float:
        path.scalar.data.fill_(scalar)
        with network.with_also({place: path}):
            network.train()
            losses = [cross_entropy(network(images), labels).item() for images, labels in batches]
        return sum(losses) / len(losses)

    assert slope != 0
    assert slope == pytest.approx((loss(1e-8) - loss(-1e-8)) / 2e-8, rel=1e-4)


def test_uniform_growth_reaches_every_place_and_reads_no_images(digits: Dataset) -> None:
    network, seen = network_of(), set[Place]()
    for seed in range(200):
        given = Growing(
            free_of(network),
            3,
            lambda place: fresh_path(network, place, 0.0, 0, 1),
            (pytest.fail("a batch was made") for _ in range(1)),
            stream(seed, "test"),
        )
        places = [place for place, value, _ in GROWTHS["uniform"](network, given) if value is None]
        assert len(set(places)) == 3
        seen |= set(places)
    assert seen == set(free_of(network))


# --- a change


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_changes_keep_the_budget(digits: Dataset, variant: str, removal: str, growth: str) -> None:
    network, history = network_of(variant), History()
    optimizer, rules = adam(network), rules_of(removal, growth)
    budget, some = len(network.places), 0
    for step in range(1, 4):
        train_step(network, optimizer, batch_of(digits, step - 1))
        history.record.note(network)
        before = set(network.places)
        gone, came = places_of(changed(network, optimizer, rules, history, step, digits))
        assert len(network.places) == budget and len(gone) == len(came)
        assert set(gone) <= before and not set(came) & before
        assert set(network.places) == (before - set(gone)) | set(came)
        assert ids_of(optimizer) == {id(parameter) for parameter in network.parameters()}
        assert len(optimizer.param_groups[0]["params"]) == len(ids_of(optimizer))
        assert history.record.steps == 0
        some += len(gone)
    assert some >= 3 if removal != "threshold" else some > 0


@pytest.mark.parametrize("new_scalars", [None, 0.1])
@pytest.mark.parametrize("growth", GROWTHS)
def test_what_comes_is_trained_from_the_next_step_on(
    digits: Dataset, growth: str, new_scalars: float | None
) -> None:
    network, history = network_of(), History()
    optimizer = adam(network)
    train_step(network, optimizer, batch_of(digits))
    rules = rules_of("scalar", growth, new_scalars=new_scalars)
    _, (came,) = places_of(changed(network, optimizer, rules, history, 1, digits))
    path = network.path(came)
    assert path.scalar.item() == pytest.approx(0.1) if new_scalars else 0 < path.scalar.item() < 1
    before = {name: value.detach().clone() for name, value in path.named_parameters()}
    train_step(network, optimizer, batch_of(digits, 1))
    weights = [name for name, value in before.items() if name == "scalar" or value.dim() == 4]
    assert len(weights) == 4
    for name in weights:
        assert not torch.equal(dict(path.named_parameters())[name], before[name]), name


def test_what_survives_keeps_its_values_and_its_moments(digits: Dataset) -> None:
    network, history = network_of(), History()
    optimizer = adam(network)
    for number in range(2):
        train_step(network, optimizer, batch_of(digits, number))
    before = {
        name: [value.detach().clone(), *(part.clone() for part in optimizer.state[value].values())]
        for name, value in network.named_parameters()
    }
    gone, came = places_of(changed(network, optimizer, rules_of("scalar", "gradient"), history, 2, digits))
    left = {f"paths.{source}_{target}." for source, target in gone}
    fresh = tuple(f"paths.{source}_{target}." for source, target in came)
    survivors = 0
    for name, value in network.named_parameters():
        if name.startswith(fresh):
            assert value not in optimizer.state
            continue
        survivors += 1
        after = [value.detach(), *optimizer.state[value].values()]
        assert all(torch.equal(one, other) for one, other in zip(before[name], after, strict=True))
    assert survivors == len([name for name in before if not name.startswith(tuple(left))])


def test_no_more_go_than_can_come_elsewhere(digits: Dataset) -> None:
    """Were all below the threshold, the weakest would go, one for each free place."""
    network, history = network_of("sequential", 40), History()
    rules = rules_of("threshold", threshold=10.0)
    weakest = sorted(network.scalars, key=lambda place: network.scalars[place])[:5]
    gone, came = places_of(changed(network, adam(network), rules, history, 1, digits))
    assert gone == weakest and len(came) == 5 and not set(came) & set(gone)


def test_nothing_goes_where_nothing_is_below_the_threshold(digits: Dataset) -> None:
    network, history = network_of(), History()
    assert changed(network, adam(network), rules_of("threshold", threshold=1e-9), history, 1, digits) == []


@pytest.mark.parametrize("growth", GROWTHS)
def test_shuffle_fills_what_was_never_used_before_anything_else(digits: Dataset, growth: str) -> None:
    network, history = network_of("shuffle", 30), History()
    optimizer, used, left = adam(network), set(network.places), list[Place]()
    for step in range(1, 8):
        (gone,), (came,) = places_of(
            changed(network, optimizer, rules_of("scalar", growth), history, step, digits)
        )
        if step <= 4:  # as many places as were never used
            assert came not in used
        else:
            assert came == left.pop(0)  # of those that were used, the one that was emptied first
        used.add(came)
        left.append(gone)
        assert set(history.emptied) == set(left)


def test_changes_follow_the_rng_seed_and_the_step(digits: Dataset) -> None:
    def came(rng_seed: int, step: int) -> list[Place]:
        network = network_of()
        rules = rules_of(rng_seed=rng_seed)
        return places_of(changed(network, adam(network), rules, History(), step, digits))[1]

    assert came(0, 5) == came(0, 5)
    assert len({tuple(came(seed, step)) for seed in range(3) for step in (5, 6, 7)}) > 3


# --- when


def test_changes_are_due_every_so_many_steps_of_a_share_of_the_training() -> None:
    def due(**changed: Any) -> list[int]:
        return [step for step in range(1, 41) if rules_of(**changed).are_due(step, 40)]

    assert due(frequency=10) == [10, 20, 30]
    assert due(frequency=10, until=0.74) == [10, 20]
    assert due(frequency=10, until=1.0) == [10, 20, 30]  # never after the last step
    assert due(frequency=15, until=1.0) == [15, 30]
    assert len(due(frequency=1)) == 30


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"removal": "largest"}, "removal is 'largest', but must be one of scalar, gradient, threshold"),
        ({"growth": "all"}, "growth is 'all', but must be one of uniform, gradient"),
        ({"frequency": 0}, "frequency is 0, but must be at least 1"),
        ({"until": 0.0}, r"until is 0, but must be in \(0, 1\]"),
        ({"until": 1.2}, r"until is 1.2, but must be in \(0, 1\]"),
        ({"threshold": 0.0}, "threshold is 0, but must be above 0"),
        ({"new_scalars": 0.0}, "new_scalars is 0, but then the weights of a path have no gradient"),
    ],
)
def test_rules_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rules_of(**changed)
