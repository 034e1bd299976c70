"""The forms of an export by name. A new one is a file of this room, whose `write` makes it, and an entry here.

An entry is known without torch and without what the form needs; what writes it is imported when it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.export.model import Model, Written


class _Module(Protocol):
    """What the file of a form defines; integers is given where they are asked for."""

    def write(self, model: Model, folder: Path, **integers: Any) -> Written: ...


@dataclass(frozen=True)
class Form:
    """module: whose `write` makes it. help: what it is, in a line. has_integers: whether it can be of int8."""

    module: str
    help: str
    has_integers: bool = False


FORMS: dict[str, Form] = {
    "c": Form("structnet.export.c_header", "a header for any C compiler", has_integers=True),
    "onnx": Form("structnet.export.onnx_graph", "a model for ONNX Runtime and others"),
    "torch": Form("structnet.export.torch_module", "a short module of PyTorch, its state, and torch.export"),
    "safetensors": Form("structnet.export.safetensors_file", "arrays, and as metadata what they mean"),
    "numpy": Form("structnet.export.numpy_file", "one Python file that needs numpy only"),
}


def form_named(name: str, is_int8: bool = False) -> Form:
    """The form of this name; raises UserError for an unknown one, and for int8 of one that has none."""
    if name not in FORMS:
        raise UserError(f"to is '{name}', but must be one of {', '.join(FORMS)}: give --to")
    if is_int8 and not FORMS[name].has_integers:
        having = ", ".join(each for each, form in FORMS.items() if form.has_integers)
        raise UserError(f"int8 is given, but the form {name} has none: give --to {having}, or leave it out")
    return FORMS[name]


def write(form: Form, model: Model, folder: Path, **integers: Any) -> Written:
    """Writes a form into a folder that is there. Raises UserError where a library for it is missing."""
    return cast("_Module", import_module(form.module)).write(model, folder, **integers)
