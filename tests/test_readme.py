"""The README's Python runs as it stands, and the commands it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_of_the_readme_runs() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    names: dict[str, object] = {}
    exec(compile(code[0], "README.md", "exec"), names)
    assert names["result"].test.accuracy > 0.9  # type: ignore[attr-defined]


def test_the_commands_and_options_of_the_readme_exist() -> None:
    from search.cli import app

    for line in re.findall(r"structnet ((?:grow|predict|query|bench [a-z]+)[^`\n#]*)", README):
        command = line.split()[:2] if line.startswith("bench") else line.split()[:1]
        page = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300"})
        assert page.exit_code == 0, line
        for option in re.findall(r"(--[a-z][a-z-]*)", line):
            assert option in page.output, f"{option} in: structnet {line}"
