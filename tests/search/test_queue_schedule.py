"""Which entries of a queue start, and on which devices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.commands.queue.schedule import Demand, fits_at_all, to_start


def started(waiting: list[Demand], running: list[Demand], cpus: float, parallel: int = 9) -> list[int]:
    return list(to_start(waiting, running, cpus=cpus, gpus=0, parallel=parallel))


def test_the_most_important_start_first_and_the_older_among_equals() -> None:
    waiting = [Demand(1, 0, 1), Demand(2, 5, 1), Demand(3, 5, 1), Demand(4, -1, 1)]
    assert started(waiting, [], cpus=9) == [2, 3, 1, 4]
    assert started(waiting, [], cpus=9, parallel=2) == [2, 3]
    assert started(waiting, [Demand(9, 0, 1)], cpus=9, parallel=2) == [2]


def test_small_ones_may_overtake_a_big_one_that_does_not_fit_yet() -> None:
    waiting = [Demand(1, 9, 4), Demand(2, 1, 2), Demand(3, 0, 2), Demand(4, 0, 1)]
    assert started(waiting, [Demand(9, 0, 1)], cpus=4) == [2, 4]
    assert started(waiting, [], cpus=4) == [1]


def test_tenths_add_up() -> None:
    assert started([Demand(1, 0, 0.1), Demand(2, 0, 0.2)], [], cpus=0.3) == [1, 2]


def test_shares_of_a_gpu_lie_together_and_whole_ones_stay_whole() -> None:
    half = [Demand(number, 0, 0, 0.5) for number in (1, 2, 3)]
    whole = Demand(4, -1, 0, 1)
    assert to_start([*half[:2], whole], [], cpus=0, gpus=2, parallel=9) == {1: (0,), 2: (0,), 4: (1,)}
    assert to_start([*half, whole], [], cpus=0, gpus=2, parallel=9) == {1: (0,), 2: (0,), 3: (1,)}
    running = [Demand(8, 0, 0, 0.7, (0,))]
    assert to_start([half[0]], running, cpus=0, gpus=2, parallel=9) == {1: (1,)}
    assert to_start([half[0]], running, cpus=0, gpus=1, parallel=9) == {}


def test_more_than_one_gpu_are_whole_ones() -> None:
    big = Demand(1, 0, 0, 1.5)
    assert to_start([big, Demand(2, 0, 0, 0.1)], [], cpus=0, gpus=2, parallel=9) == {1: (0, 1)}
    assert not fits_at_all(big, cpus=0, gpus=1)
    assert fits_at_all(big, cpus=0, gpus=2)


def test_what_runs_on_a_device_that_is_gone_is_no_hindrance() -> None:
    running = [Demand(1, 0, 0, 1, (3,))]
    assert to_start([Demand(2, 0, 0, 1)], running, cpus=0, gpus=1, parallel=9) == {2: (0,)}


amounts = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
demands = st.lists(st.tuples(st.integers(-2, 2), amounts, amounts), max_size=8).map(
    lambda rows: [Demand(number, *row) for number, row in enumerate(rows)]
)


def used(demands: list[Demand], gpus: int) -> tuple[float, list[float]]:
    """The CPUs these use, and the share of each device."""
    shares = [sum(min(d.gpus, 1) for d in demands if device in d.devices) for device in range(gpus)]
    return sum(demand.cpus for demand in demands), shares


@given(demands, demands, st.sampled_from([0.0, 1.0, 2.5, 4.0]), st.integers(0, 3), st.integers(1, 5))
def test_never_above_what_there_is_and_never_a_lower_one_instead_of_a_higher_one(
    first: list[Demand], then: list[Demand], cpus: float, gpus: int, parallel: int
) -> None:
    room = {"cpus": cpus, "gpus": gpus, "parallel": parallel}
    placed = to_start(first, [], **room)
    running = [demand._replace(devices=placed[demand.id]) for demand in first if demand.id in placed]
    waiting = [demand._replace(id=100 + demand.id) for demand in then]
    starts = to_start(waiting, running, **room)
    now = {d.id: d._replace(devices=starts[d.id]) for d in waiting if d.id in starts}

    together = [*running, *now.values()]
    busy, shares = used(together, gpus)
    assert busy <= cpus
    assert all(share <= 1 for share in shares)
    assert len(together) <= parallel
    for demand in now.values():
        needed = demand.gpus if demand.gpus > 1 else min(demand.gpus, 1)
        assert len(set(demand.devices)) == len(demand.devices) >= needed

    # Who was passed over had no room beside those that are more important.
    order = sorted(waiting, key=lambda demand: (-demand.priority, demand.id))
    for place, demand in enumerate(order):
        before = [now[other.id] for other in order[:place] if other.id in now]
        alone = to_start([demand], [*running, *before], **room)
        assert (demand.id in now) == bool(alone)
    if waiting and not together:
        assert not any(fits_at_all(demand, cpus=cpus, gpus=gpus) for demand in waiting)
