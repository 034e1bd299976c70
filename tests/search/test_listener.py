"""The listener of a run of trials: what it notes, and what becomes of it in Tune's state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from search.tune import metrics
from search.tune.listener import Listener, current_listener
from search.tune.metrics import SearchMetrics
from structnet.errors import WorkFailed

TRIALS: list[Any] = [SimpleNamespace(path=name, status="PENDING", config={"index": 3}) for name in ("a", "b")]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    monkeypatch.setattr(metrics, "publish", lambda metric, value, **tags: found.append((metric.name, value)))
    return found


def listener(on_report: Any = print, check_store: Any = lambda: None) -> Listener:
    return Listener(on_report, SearchMetrics("test", 2), check_store)


def test_a_pickle_of_a_listener_is_the_one_that_listens_where_it_is_opened() -> None:
    data = cloudpickle.dumps(listener(on_report=lambda report: None))
    with pytest.raises(LookupError):
        cloudpickle.loads(data)
    other = listener()
    with other.listening():
        assert cloudpickle.loads(data) is other is current_listener()
    with pytest.raises(LookupError):
        current_listener()


def test_reports_are_passed_on_and_results_without_one_are_not(published: list[Any]) -> None:
    reports: list[dict[str, Any]] = []
    one = listener(reports.append)
    one.on_trial_result(1, TRIALS, TRIALS[0], {"report": {"name": "a", "networks": 2}})
    one.on_trial_result(1, TRIALS, TRIALS[0], {"done": True})
    assert reports == [{"name": "a", "networks": 2}]
    assert ("structnet_networks_trained", 2) in published


def test_what_ends_the_run_is_kept(published: list[Any]) -> None:
    def full() -> None:
        raise WorkFailed("nothing can be written")

    one = listener(check_store=full)
    with pytest.raises(WorkFailed):
        one.on_trial_recover(1, TRIALS, TRIALS[0])
    assert str(one.failure) == "nothing can be written"


def test_a_trial_has_not_begun_until_its_process_took_it_up(published: list[Any]) -> None:
    one = listener()
    one.on_trial_start(1, TRIALS, TRIALS[0])
    one.on_trial_error(1, TRIALS, TRIALS[0])
    assert one.never_begun == set()
    # On a retry it has to be taken up anew.
    one.on_trial_recover(1, TRIALS, TRIALS[0])
    for trial in TRIALS:
        one.on_trial_error(1, TRIALS, trial)
    assert one.never_begun == {"a", "b"}
    one.on_experiment_end(TRIALS)
    assert one.indices == {"a": 3, "b": 3}


def test_the_trial_that_changes_counts_as_it_will_be(published: list[Any]) -> None:
    listener().on_trial_start(1, TRIALS, TRIALS[0])
    assert published == [("structnet_jobs_running", 1), ("structnet_jobs_waiting", 1)]
