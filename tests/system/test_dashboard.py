"""The Grafana dashboard shows every metric of ours, and asks only for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import ray

from tournament.workers.metrics import HISTOGRAM, METRICS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "grafana.json").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
OURS = {name: metric for metric in METRICS for name in metric.exported}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Functions, aggregations and keywords of PromQL that the dashboard uses.
WORDS = {"by", "histogram_quantile", "max", "rate", "sum"}


def names_in(expression: str) -> set[str]:
    """Every word that is no label, no string, no duration and no part of PromQL: so a metric."""
    without = re.sub(r'"[^"]*"|\{[^}]*\}|\[\w+\]|by \([^)]*\)', " ", expression)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", without)) - WORDS


def rays_own() -> set[str]:
    """The metrics that the dashboards show which Ray brings with it."""
    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    return {name for file in folder.glob("*.py") for name in re.findall(r"\bray_\w+", file.read_text())}


def test_names_are_found_in_expressions() -> None:
    assert names_in('100 * ray_a{x=~"ray_b"} / sum by (le, y) (rate(ray_c_bucket{z="1"}[10m]))') == {
        "ray_a",
        "ray_c_bucket",
    }
    assert names_in("max(other_metric)") == {"other_metric"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    names = names_in(expression)
    assert names and names <= set(OURS) | rays_own()
    asked = {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(", ")}
    asked |= {
        label for labels in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)=", labels)
    }
    for metric in (OURS[name] for name in names & set(OURS)):
        assert asked <= {*metric.tags, *(("le",) if metric.kind == HISTOGRAM else ())}


def test_every_metric_of_ours_is_shown() -> None:
    shown = {OURS[name].name for text in EXPRESSIONS for name in names_in(text) if name in OURS}
    assert shown == {metric.name for metric in METRICS}


def test_legends_name_labels_that_the_expression_leaves() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if " by " in target["expr"]:
                left = set(re.findall(r"\w+", re.findall(r"by \(([^)]*)\)", target["expr"])[0]))
                assert wanted <= left, panel["title"]


def test_the_data_source_is_chosen_on_the_page() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["experiment"]["datasource"] == SOURCE
    for panel in PANELS:
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert set(re.findall(r"\$\{?(\w+)", TEXT)) == {"datasource", "experiment", "__all"}


def test_panels_have_their_own_id_and_place() -> None:
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in every]
    for x, _, width, height in places:
        assert x >= 0 and x + width <= 24 and height > 0
    for (x, y, width, height), (left, top, wide, high) in combinations(places, 2):
        assert x + width <= left or left + wide <= x or y + height <= top or top + high <= y
    for panel in PANELS:
        assert panel["title"] and panel["description"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))


def test_the_page_on_watching_names_every_metric() -> None:
    page = (ROOT / "docs" / "WATCHING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    assert rows == {metric.name: ", ".join(metric.tags) for metric in METRICS}
