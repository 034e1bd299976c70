"""The three floors: search above tournament above structnet, and nothing imports upwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import structnet

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"structnet": {"ray", "tournament", "search"}, "tournament": {"search"}}
MODULES = sorted(file for floor in FORBIDDEN for file in (ROOT / floor).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """The packages that a file imports, anywhere in it, by statement or by importlib."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {str(part.value) for part in node.args if isinstance(part, ast.Constant)}
    return {name.partition(".")[0] for name in names}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_floor_imports_from_above(file: Path) -> None:
    floor = file.relative_to(ROOT).parts[0]
    assert not imported(file) & FORBIDDEN[floor]


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import json\nfrom . import sibling\n"
        "def late():\n    from ray.tune import run\n    import search.cli as cli\n"
        "    importlib.import_module('tournament.score')\n"
    )
    assert imported(file) == {"json", "ray", "search", "tournament"}


def test_structnet_does_not_load_ray() -> None:
    run(
        "import sys\n"
        "from structnet import StructNet\n"
        "assert 'torch' in sys.modules\n"
        "assert 'ray' not in sys.modules\n"
    )


def test_public_names_exist() -> None:
    for name in structnet.__all__:
        assert callable(getattr(structnet, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = structnet.nothing


def test_structnet_works_without_ray() -> None:
    """Every module of the floor can be imported, and a network learns, where Ray cannot be imported."""
    run(
        "import importlib, pkgutil, sys\n"
        "sys.modules['ray'] = None\n"
        "import structnet, torch\n"
        "for module in pkgutil.walk_packages(structnet.__path__, 'structnet.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "net = structnet.StructNet([4, 3, 2], 0.5)\n"
        "net(torch.rand(5, 4)).sum().backward()\n"
        "assert net.values.grad.abs().sum() > 0\n"
    )


@pytest.mark.skipif(not (ROOT / "search" / "cli.py").exists(), reason="there is no command line yet")
def test_the_command_line_starts_without_torch_and_ray() -> None:
    run("import sys, search.cli; assert not {'torch', 'ray'} & set(sys.modules)")


def test_status_reads_tables_without_torch_and_ray(tmp_path: Path) -> None:
    run(
        "import sys\n"
        "from structnet.storage.tables import TableWriter\n"
        "from search.cli import app\n"
        f"results = {str(tmp_path)!r}\n"
        "row = {'trial': '', 'command': 'hunt', 'status': 'running'}\n"
        "TableWriter(results, 'one').write('experiments', 'run', [row])\n"
        "for name in ([], ['one']):\n"
        "    app(['status', *name, '--results', results], standalone_mode=False)\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
    )
