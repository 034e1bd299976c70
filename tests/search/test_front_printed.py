"""The front as it is printed."""

from __future__ import annotations

from typing import Any

import pytest

from search.session.console import Console
from search.session.front import print_front

ROW = {
    "parameters": 120,
    "connections": 100,
    "bytes": 600,
    "accuracy": 0.9,
    "information": 2.0,
    "chosen": True,
}


@pytest.mark.parametrize(
    ("macs", "header", "cells"),
    [
        (100, "parameters bytes accuracy", "→ 120 600 90.00%"),
        (None, "parameters bytes accuracy", "→ 120 600 90.00%"),
        ("missing", "parameters bytes accuracy", "→ 120 600 90.00%"),
        (4900, "parameters bytes multiply-adds accuracy", "→ 120 600 4,900 90.00%"),
    ],
)
def test_multiply_adds_are_shown_of_maps(
    macs: Any, header: str, cells: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_front([{**ROW, **({} if macs == "missing" else {"macs": macs})}], Console())
    _, names, line = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert names == f"{header} information worth test"
    assert line == f"{cells} 2.000 bits"
