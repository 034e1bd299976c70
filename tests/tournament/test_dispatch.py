"""Which worker gets which job, and what becomes of the jobs of one that dies; without Ray."""

from __future__ import annotations

from tournament.workers.dispatch import TASK_RETRIES, Dispatch, Sent


def sent(dispatch: Dispatch, away: frozenset[int] = frozenset()) -> list[tuple[int, int]]:
    """Sends what can be; (worker, job), where the report of a job is its number."""
    turns = []
    while turn := dispatch.next(away):
        worker, job = turn
        dispatch.sent[job] = Sent(worker, job, [])
        turns.append(turn)
    return turns


def test_a_second_job_waits_at_every_worker_but_the_last_are_kept_back() -> None:
    dispatch = Dispatch(6, workers=2)
    # With three waiting a worker has one beside it; with two left, only who is free gets one.
    assert sent(dispatch) == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert (dispatch.busy, dispatch.not_begun) == (2, 4)
    dispatch.end(1)
    assert sent(dispatch) == []
    dispatch.end(3)
    assert sent(dispatch) == [(1, 4)]


def test_who_is_away_gets_nothing() -> None:
    dispatch = Dispatch(3, workers=2)
    assert sent(dispatch, frozenset({0})) == [(1, 0), (1, 1)]
    assert sent(dispatch, frozenset({0, 1})) == []


def test_the_jobs_of_a_worker_that_dies_wait_again_in_their_order() -> None:
    dispatch = Dispatch(6, workers=2)
    sent(dispatch)
    assert dispatch.lose(0) is None
    assert list(dispatch.waiting) == [0, 2, 4, 5]
    assert list(dispatch.sent) == [1, 3]


def test_a_job_that_kills_its_worker_is_given_up_after_two_more_tries() -> None:
    dispatch = Dispatch(1, workers=1)
    for _ in range(TASK_RETRIES):
        assert sent(dispatch) == [(0, 0)]
        assert dispatch.lose(0) is None
    assert sent(dispatch) == [(0, 0)]
    assert dispatch.lose(0) == 0
    assert not dispatch.waiting and not dispatch.sent
