"""A growth action is named in its own file and in the registry, and nowhere else in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from structnet.actions import ACTIONS

ROOT = Path(__file__).parents[2]
# Words that are no actions here: an allocation of connections, and an arm of a rescue that moves them.
OTHER_MEANINGS = {"proportional": "", "rewire": ("structnet/experiments/", "search/commands/rescue/")}
# What a rescue tests by default is an action by its name. Studies are about some.
DEFAULTS = {"search/commands/rescue/command.py": {"patch"}}
STUDIES = "search/commands/study/studies/"


def named_in(path: str, source: str) -> set[str]:
    """The actions that the strings of a file name, but for its docstrings."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    # Alone, in a list with commas, or with the ending of a twin; a sentence is prose as well.
    lists = [text for text in texts if re.fullmatch(r"\w+([,:] ?\w+)*", text)]
    words = {word for text in lists for word in re.findall(r"\w+", text)}
    found = words & ACTIONS.keys() - DEFAULTS.get(path, set())
    return {name for name in found if not path.startswith(OTHER_MEANINGS.get(name, "\0"))}


def test_an_action_is_named_nowhere_else() -> None:
    found = {}
    for path in sorted(ROOT.glob("[st]*/**/*.py")):
        name = str(path.relative_to(ROOT))
        if not name.startswith(("structnet/", "tournament/", "search/")) or name.startswith(STUDIES):
            continue
        if name.startswith("structnet/actions/"):
            own = {"registry": ACTIONS.keys()}.get(path.stem, {path.stem})
            names = named_in(name, path.read_text()) - {*own}
        else:
            names = named_in(name, path.read_text())
        if names:
            found[name] = names
    assert not found


def test_the_search_finds_names() -> None:
    code = '"""Like `patch`."""\nONE = "patch"\nLIST = "widen, clone"\nTWIN = "skip:random"\nSAID = "a patch of it"\n'
    assert named_in("tournament/heats.py", code) == {"patch", "widen", "clone", "skip"}
    assert named_in("search/options.py", 'ALLOCATION = "proportional"') == set()
