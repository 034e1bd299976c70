"""How Sphinx builds the site of these pages: `make docs`. Every warning is an error there.

The pages are read on GitHub as well, so they are plain Markdown; what only the site has is made by `reference.py`.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from reference import docstring_as_rst, write_reference  # noqa: E402  # lies beside this file, and is in no package

project = "structnet"
author = "the authors of structnet"
copyright = author
version = release = version_of("structnet")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
nitpicky = True
# Types in a signature are names of other packages, or of what is used without being documented by itself.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_heading_anchors = 4  # those of GitHub
myst_enable_extensions = ["colon_fence"]
highlight_language = "text"
# The pages have no mathematics that needs a script from elsewhere.
html_math_renderer = None

# What scikit-learn makes for the routing of metadata is its own.
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "exclude-members": "set_score_request",
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_title = f"structnet {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False

# Pages that lie above docs/ on GitHub, and where the site has them.
ABOVE = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "reference/changelog.md",
    "../CONTRIBUTING.md": "reference/contributing.md",
}


def _links_of_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = re.sub(
        r"\]\((\.\./[A-Z]+\.md)", lambda found: f"]({ABOVE.get(found[1], found[1])}", source[0]
    )


def _docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = docstring_as_rst(lines)


def setup(app: Sphinx) -> None:
    """Writes the reference before anything is read."""
    write_reference(HERE)
    app.connect("source-read", _links_of_the_site)
    app.connect("autodoc-process-docstring", _docstring)
