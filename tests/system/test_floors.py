"""The three floors: search above tournament above structnet; nothing imports upwards or in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

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


def modules_imported(file: Path, name: str, known: set[str]) -> set[str]:
    """Those of the known modules that a file of this name imports, anywhere in it and for whatever purpose.

    A package counts only where a name is taken from it that is not a module of it.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            inside = {f"{module}.{alias.name}" for alias in node.names}
            found |= inside & known or {module}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {str(part.value) for part in node.args if isinstance(part, ast.Constant)}
    return (found & known) - {name}


def circles(folder: Path, package: str) -> list[set[str]]:
    """Sets of modules of this package that import each other in a circle."""
    names = {
        ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): file
        for file in folder.rglob("*.py")
    }
    imports = {name: modules_imported(file, name, set(names)) for name, file in names.items()}
    row = {name: place for place, name in enumerate(imports)}
    edges = [(row[name], row[other]) for name, others in imports.items() for other in others]
    ends = np.array(edges, dtype=int).reshape(-1, 2).T
    graph = csr_array((np.ones(ends.shape[1]), ends), shape=(len(row), len(row)))
    count, circle_of = connected_components(graph, connection="strong")
    found = [{name for name in row if circle_of[row[name]] == circle} for circle in range(count)]
    return [circle for circle in found if len(circle) > 1]


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


@pytest.mark.parametrize("floor", ["structnet", "tournament", "search"])
def test_no_files_import_each_other_in_a_circle(floor: str) -> None:
    assert circles(ROOT / floor, floor) == []


@pytest.mark.parametrize(
    "back",
    [
        "from house.rooms.first import thing",
        "from house.rooms import first",
        "from . import first",
        "from .first import thing",
        "import house.rooms.first as first",
        "def late():\n    from ..rooms import first",
        "if TYPE_CHECKING:\n    from house.rooms.first import Thing",
        "importlib.import_module('house.rooms.first')",
    ],
)
def test_a_circle_is_found_however_it_is_closed(tmp_path: Path, back: str) -> None:
    rooms = tmp_path / "house" / "rooms"
    rooms.mkdir(parents=True)
    (rooms / "__init__.py").write_text("")
    (rooms / "first.py").write_text("from house.rooms.second import other\n")
    (rooms / "second.py").write_text("import json\n")
    assert circles(tmp_path / "house", "house") == []
    (rooms / "second.py").write_text(back + "\n")
    assert circles(tmp_path / "house", "house") == [{"house.rooms.first", "house.rooms.second"}]


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
    run("import sys; from search.cli import app; assert not {'torch', 'ray'} & set(sys.modules)")


def test_the_help_of_every_command_needs_neither_torch_nor_ray() -> None:
    run(
        "import sys, typer\n"
        "from typer.testing import CliRunner\n"
        "from search.cli import app\n"
        "def lines(command, words):\n"
        "    yield words\n"
        "    for name, part in getattr(command, 'commands', {}).items():\n"
        "        yield from lines(part, [*words, name])\n"
        "pages = list(lines(typer.main.get_command(app), []))\n"
        "assert len(pages) > 20\n"
        "for words in pages:\n"
        "    page = CliRunner().invoke(app, [*words, '--help'])\n"
        "    assert page.exit_code == 0 and 'Usage' in page.output, words\n"
        "    assert not {'torch', 'ray'} & set(sys.modules), words\n"
    )


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
