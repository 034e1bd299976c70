"""The README's Python runs as it stands; its commands are checked in test_docs_commands."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_python_of_the_readme_runs() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    names: dict[str, object] = {}
    exec(compile(code[0], "README.md", "exec"), names)
    assert names["result"].test.accuracy > 0.9  # type: ignore[attr-defined]
