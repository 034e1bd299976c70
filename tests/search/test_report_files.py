"""The script that draws charts on a page is made once, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.report import files

made = files.drawing_library.__wrapped__


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made, of which there is something short."""
    found: list[str] = []

    def bundled() -> str:
        found.append(f"// drawn {len(found)}: café")
        return found[-1]

    monkeypatch.setattr(files, "_bundled", bundled)
    return found


def test_it_is_made_once(bundles: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert made() == made() == "// drawn 0: café"
    assert len(bundles) == 1
    (kept,) = (tmp_path / "structnet").iterdir()
    assert kept.read_text(encoding="utf-8") == bundles[0]


def test_where_nothing_can_be_kept_it_is_made_again(
    bundles: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert made() == "// drawn 0: café"
    assert made() == "// drawn 1: café"


def test_no_script_in_it_ends_early() -> None:
    assert "structnetCharts=" in files.drawing_library()
    assert "</script" not in files.drawing_library().lower()
