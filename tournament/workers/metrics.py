"""The numbers that Ray exports about our work, for Prometheus and Grafana: their names, and how they get there.

Ray gathers what `publish` is told on every node and exports it there, some ten seconds later, as `ray_NAME`, a
counter as `ray_NAME_total` and a histogram as `ray_NAME_bucket`, `_sum` and `_count`. Where no Ray is, nothing
happens; and nothing that goes wrong here ends a run. The tables know more, and know it exactly.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from functools import cache
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Metric(NamedTuple):
    """name: without the prefix of Ray. kind: counter, gauge or histogram. boundaries: of a histogram, positive."""

    name: str
    kind: str
    tags: tuple[str, ...]
    description: str
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names under which Prometheus finds it."""
        ends = {COUNTER: ("_total",), GAUGE: ("",), HISTOGRAM: ("_bucket", "_sum", "_count")}
        return tuple(f"ray_{self.name}{end}" for end in ends[self.kind])


ROUNDS = Metric(
    "structnet_rounds",
    GAUGE,
    ("experiment",),
    "Rounds that the tournament has done, the opening one not counted",
)
PARAMETERS = Metric(
    "structnet_parameters", GAUGE, ("experiment",), "Parameters of the network after the last round"
)
ACCURACY = Metric(
    "structnet_accuracy",
    GAUGE,
    ("experiment",),
    "Its accuracy on validation, from 0 to 1, after the last round",
)
CREDITS = Metric("structnet_credits", GAUGE, ("experiment",), "Credits in the balance after the last round")
CANDIDATES_SCORED = Metric(
    "structnet_candidates_scored",
    COUNTER,
    ("experiment", "action"),
    "Forks that were trained and measured in their first heat, controls too",
)
CANDIDATES_FAILED = Metric(
    "structnet_candidates_failed", COUNTER, ("experiment", "action"), "Forks that failed, in any heat"
)
GAIN = Metric(
    "structnet_candidate_gain_bits",
    HISTOGRAM,
    ("experiment",),
    "Bits that a fork gained over the better control in a heat; a loss counts as 0",
    (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
)
SCORE = Metric(
    "structnet_candidate_score",
    HISTOGRAM,
    ("experiment",),
    "Bits that a fork gained for a thousand parameters added in a heat; a loss counts as 0",
    (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
)
NETWORKS_TRAINED = Metric(
    "structnet_networks_trained", COUNTER, ("experiment",), "Networks of a search whose training has ended"
)
NETWORKS_PER_SECOND = Metric(
    "structnet_networks_per_second",
    GAUGE,
    ("experiment",),
    "The same per second, over this run of the search",
)
TRIALS_FAILED = Metric(
    "structnet_trials_failed",
    COUNTER,
    ("experiment", "outcome"),
    "Times that a trial of a search died or raised; outcome: retried or given_up",
)
JOBS_WAITING = Metric(
    "structnet_jobs_waiting",
    GAUGE,
    ("queue",),
    "Jobs that no worker has begun; queue: contenders (of a tournament) or trials (of a search)",
)
JOBS_RUNNING = Metric("structnet_jobs_running", GAUGE, ("queue",), "Jobs that a worker is at")

METRICS = (
    ROUNDS,
    PARAMETERS,
    ACCURACY,
    CREDITS,
    CANDIDATES_SCORED,
    CANDIDATES_FAILED,
    GAIN,
    SCORE,
    NETWORKS_TRAINED,
    NETWORKS_PER_SECOND,
    TRIALS_FAILED,
    JOBS_WAITING,
    JOBS_RUNNING,
)


def publish(metric: Metric, value: float | None, **tags: str) -> None:
    """Adds to a counter, sets a gauge until it is forgotten, or notes a value in a histogram.

    Of a counter only what is above 0 counts. Ray's histograms drop what is below 0, so it counts as 0 here.
    """
    if value is None or not math.isfinite(value) or not _on_ray():
        return
    if metric.kind == GAUGE:
        _GAUGES.hold(metric, float(value), tags)
    _record(metric, float(value), tags)


def forget(**tags: str) -> None:
    """Gauges with these tags are no longer exported: what they measure is over."""
    _GAUGES.forget(tags)


def _on_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _record(metric: Metric, value: float, tags: dict[str, str]) -> None:
    try:
        instrument = _instrument(metric)
        if metric.kind == GAUGE:
            instrument.set(value, tags)
        elif metric.kind == HISTOGRAM:
            instrument.observe(max(value, 0.0), tags)
        elif value > 0:
            instrument.inc(value, tags)
    except Exception:
        logger.debug("%s was not published", metric.name, exc_info=True)


@cache
def _instrument(metric: Metric) -> Any:
    """What Ray takes the values by; in this process once, also if Ray is shut down and started again."""
    from ray.util import metrics

    if metric.kind == HISTOGRAM:
        return metrics.Histogram(metric.name, metric.description, list(metric.boundaries), metric.tags)
    kind = metrics.Counter if metric.kind == COUNTER else metrics.Gauge
    return kind(metric.name, metric.description, metric.tags)


class _Gauges:
    """The gauges of this process. Ray drops one twenty seconds after it was set, so a thread sets them again."""

    def __init__(self) -> None:
        self._held: dict[tuple[Metric, frozenset[tuple[str, str]]], float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def hold(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        with self._lock:
            self._held[metric, frozenset(tags.items())] = value
            if self._thread is None:
                self._thread = threading.Thread(target=self._refresh, name="metrics", daemon=True)
                self._thread.start()

    def forget(self, tags: dict[str, str]) -> None:
        with self._lock:
            self._held = {key: value for key, value in self._held.items() if not tags.items() <= key[1]}

    def _refresh(self) -> None:
        """Until there is nothing to refresh."""
        while True:
            time.sleep(REFRESH_SECONDS)
            with self._lock:
                held = list(self._held.items())
                if not held:
                    self._thread = None
                    return
            if _on_ray():
                for (metric, tags), value in held:
                    _record(metric, value, dict(tags))


_GAUGES = _Gauges()
