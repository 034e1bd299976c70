"""What Ray exports about our work: the right numbers under the right names, and never at the cost of a run."""

from __future__ import annotations

import inspect
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from search.tune import metrics as search_metrics
from search.tune.metrics import SearchMetrics
from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament import observer as observing
from tournament.observer import Observer, Observers, TournamentMetrics
from tournament.workers import metrics as tournament_metrics
from tournament.workers.metrics import HISTOGRAM, METRICS, ROUNDS, Metric, forget, publish
from tournament.workers.pool import InlinePool, RayPool

Told = list[tuple[Any, ...]]
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What was published: name, value, tags in their order."""
    found: Told = []

    def note(metric: Metric, value: float | None, **tags: str) -> None:
        assert set(tags) == set(metric.tags)
        if value is not None:
            found.append((metric.name.removeprefix("structnet_"), value, *tags.values()))

    for module in (observing, search_metrics):
        monkeypatch.setattr(module, "publish", note)
    return found


def test_names_and_boundaries_are_as_ray_wants_them() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("structnet_") and metric.description
        assert bool(metric.boundaries) == (metric.kind == HISTOGRAM)
        assert list(metric.boundaries) == sorted(metric.boundaries) and all(
            edge > 0 for edge in metric.boundaries
        )


# What is published


def test_a_round_sets_what_it_came_to(told: Told) -> None:
    row = {"round": 3, "parameters": 900, "accuracy": 0.75, "balance": 12.5, "gain": None}
    TournamentMetrics("grown").round_done(row)
    assert told == [
        ("rounds", 3, "grown"),
        ("parameters", 900, "grown"),
        ("accuracy", 0.75, "grown"),
        ("credits", 12.5, "grown"),
    ]


def fork(action: str, heat: int, state: str = "finished", **columns: Any) -> dict[str, Any]:
    return {"action": action, "heat": heat, "status": state, "audit": False, **columns}


def test_a_fork_is_counted_once_and_its_gain_in_every_heat(told: Told) -> None:
    rows = [
        fork("train", 1, gain=None, score=None),
        fork("widen", 1, gain=0.5, score=2.0),
        fork("widen", 1, gain=-0.25, score=-1.0),
        fork("patch", 1, "failed"),
        fork("skip", 1, "unaffordable"),
        fork("train", 2, gain=None, score=None),
        fork("widen", 2, gain=0.75, score=3.0),
        fork("widen", 3, gain=9.0, score=9.0, audit=True),
        fork("widen", 3, "failed", audit=True),
    ]
    TournamentMetrics("grown").candidates_judged(rows)
    assert told == [
        ("candidates_scored", 1, "grown", "train"),
        ("candidates_scored", 2, "grown", "widen"),
        ("candidates_failed", 1, "grown", "patch"),
        ("candidates_failed", 1, "grown", "widen"),
        ("candidate_gain_bits", 0.5, "grown"),
        ("candidate_score", 2.0, "grown"),
        ("candidate_gain_bits", -0.25, "grown"),
        ("candidate_score", -1.0, "grown"),
        ("candidate_gain_bits", 0.75, "grown"),
        ("candidate_score", 3.0, "grown"),
    ]


def test_networks_are_counted_as_trials_tell_them(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(search_metrics, "time", SimpleNamespace(monotonic=lambda: clock.now))
    search = SearchMetrics("hunted", 3)
    clock.now += 2
    search.reported({"name": "a", "networks": 4, "done": False})
    search.reported({"name": "of a study", "done": True})
    clock.now += 2
    search.reported({"name": "a", "networks": 1, "done": False})  # tried again
    search.reported({"name": "b", "networks": 3, "done": True})
    search.reported({"name": "a", "networks": 2, "done": True})
    assert [value for name, value, _ in told if name == "networks_trained"] == [4, -3, 3, 1]
    assert [value for name, value, _ in told if name == "networks_per_second"] == [2.0, 1.0, 1.75, 2.0]


def test_trials_that_tune_has_not_made_yet_wait_too(told: Told) -> None:
    search = SearchMetrics("hunted", 9)
    search.queued(["TERMINATED", "RUNNING", "RUNNING", "ERROR", "PENDING", "PAUSED"])
    search.failed("retried")
    assert told == [
        ("jobs_running", 2, "trials"),
        ("jobs_waiting", 5, "trials"),
        ("trials_failed", 1, "hunted", "retried"),
    ]


# Never at the cost of a run


def test_without_ray_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(metric: Metric) -> None:
        raise AssertionError("there is nobody to tell")

    monkeypatch.setattr(tournament_metrics, "_instrument", refuse)
    for ray in (None, SimpleNamespace(is_initialized=lambda: False)):
        monkeypatch.setitem(sys.modules, "ray", ray)
        publish(ROUNDS, 1, experiment="x")


def test_what_ray_refuses_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Metric] = []

    def refuse(metric: Metric) -> None:
        asked.append(metric)
        raise RuntimeError("no more of this")

    monkeypatch.setattr(tournament_metrics, "_instrument", refuse)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    publish(ROUNDS, 1, experiment="x")
    assert asked == [ROUNDS]


def test_gauges_are_set_again_until_they_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray drops what is not."""
    heard: list[tuple[float, dict[str, str]]] = []
    instrument = SimpleNamespace(set=lambda value, tags: heard.append((value, tags)), inc=None)
    monkeypatch.setattr(tournament_metrics, "_instrument", lambda metric: instrument)
    monkeypatch.setattr(tournament_metrics, "REFRESH_SECONDS", 0.001)
    monkeypatch.setattr(tournament_metrics, "_on_ray", lambda: True)
    gauges = tournament_metrics._Gauges()
    monkeypatch.setattr(tournament_metrics, "_GAUGES", gauges)
    one, other = {"experiment": "one"}, {"experiment": "other"}
    publish(ROUNDS, 1, **one)
    publish(ROUNDS, 2, **one)
    publish(ROUNDS, 7, **other)
    for _ in range(2):
        heard.clear()
        while heard.count((2, one)) < 3 or heard.count((7, other)) < 3:
            time.sleep(0.001)
    assert (1, one) not in heard, "only the last value is set again"
    forget(**one)
    time.sleep(0.01)
    heard.clear()
    while heard.count((7, other)) < 3:
        time.sleep(0.001)
    assert (2, one) not in heard
    thread = gauges._thread
    assert thread is not None
    forget(**other)
    thread.join(60)
    assert not thread.is_alive(), "nothing is left to do"


def test_several_observers_are_told_everything_in_their_order() -> None:
    heard: list[tuple[Any, ...]] = []

    class Noting(Observer):
        """Notes every call."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __getattribute__(self, hook: str) -> Any:
            if hook.startswith("_") or hook == "name":
                return super().__getattribute__(hook)
            return lambda *given: heard.append((self.name, hook, *given))

    hooks = [name for name in vars(Observer) if not name.startswith("_")]
    both = Observers(Noting("a"), Noting("b"))
    for hook in hooks:
        given = list(range(len(inspect.signature(getattr(Observer, hook)).parameters) - 1))
        getattr(both, hook)(*given)
        assert heard == [("a", hook, *given), ("b", hook, *given)]
        heard.clear()


# What is exported


def grow(data: Dataset, observer: Observer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A small tournament on two workers: its rows of rounds and candidates."""
    settings = Settings(
        epochs=6,
        rounds=2,
        round_steps=20,
        heat_steps=40,
        candidates=6,
        recipe=Recipe(batch_size=32),
        economy=Economy(income=0.5, fork_price=0.0),
    )
    pool = RayPool(data, 2)
    try:
        seed = StructNet([64, 16, 10], 0.1, ensure_paths=True)
        result = Tournament(seed, data, settings=settings, pool=pool, observer=observer).run()
    finally:
        pool.close()
    return result.rounds, result.candidates


def scraped() -> Samples:
    """Name -> labels and value of every sample that the node exports."""
    import ray

    url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    found: Samples = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


class Scraping(Observer):
    """Waits at the end of a tournament until all metrics are exported, and keeps what the node says then."""

    found: Samples

    def ended(self) -> None:
        # None of its own forks failed.
        TournamentMetrics("exported").candidates_judged([fork("patch", 1, "failed")])
        search = SearchMetrics("exported", 3)
        search.queued(["RUNNING"])
        search.reported({"name": "a", "networks": 7})
        search.failed("retried")
        exported = {name for metric in METRICS for name in metric.exported}
        started = time.monotonic()
        while (found := scraped()) and not exported <= set(found):
            assert time.monotonic() - started < 120, f"not exported: {sorted(exported - set(found))}"
            time.sleep(1)
        self.found = found


@pytest.mark.slow
def test_a_node_exports_every_metric(ray_session: None) -> None:
    data, scraping = load_dataset("digits"), Scraping()
    rounds, candidates = grow(data, Observers(scraping, TournamentMetrics("exported")))
    found = scraping.found

    def values(name: str, tag: str = "experiment") -> dict[str, float]:
        samples = found[f"ray_structnet_{name}"]
        return {
            labels[tag]: value
            for labels, value in samples
            if labels.get("experiment", "exported") == "exported"
        }

    last = rounds[-1]
    for name, column in (("rounds", "round"), ("parameters", "parameters"), ("credits", "balance")):
        assert values(name) == {"exported": pytest.approx(last[column])}
    assert values("accuracy") == {"exported": pytest.approx(last["accuracy"])}
    first = [row for row in candidates if row["heat"] == 1 and row["status"] == "finished"]
    assert values("candidates_scored_total", "action") == Counter(row["action"] for row in first)
    assert values("candidates_failed_total", "action") == {"patch": 1}
    gains = [row["gain"] for row in candidates if row.get("gain") is not None]
    assert values("candidate_gain_bits_count") == {"exported": len(gains)}
    assert values("networks_trained_total") == {"exported": 7}
    assert values("networks_per_second")["exported"] > 0
    assert values("trials_failed_total", "outcome") == {"retried": 1}
    assert values("jobs_running", "queue") == {"contenders": 0, "trials": 1}
    assert values("jobs_waiting", "queue") == {"contenders": 0, "trials": 2}


def test_metrics_change_nothing(ray_session: None) -> None:
    data = load_dataset("digits")
    settings = Settings(epochs=4, rounds=1, round_steps=20, heat_steps=20, candidates=3)
    rows = []
    for observer in (None, TournamentMetrics("unchanged")):
        pool = InlinePool(data)
        seed = StructNet([64, 16, 10], 0.1, ensure_paths=True)
        result = Tournament(seed, data, settings=settings, pool=pool, observer=observer).run()
        pool.close()
        rows.append([{**row, "seconds": 0} for row in result.rounds])
    assert rows[0] == rows[1]
