"""What the user gives: a network that their own module makes, and a file of weights for it."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from structnet.errors import UserError, one_line

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Modules of the current folder can be imported inside, as by `python -m`."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def module_of(factory: str) -> nn.Module:
    """The network that `MODULE:FACTORY` names or makes; raises UserError, with what their code raised."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*(?<!\.py):[^\W\d]\w*", factory):
        raise UserError(
            f"factory is '{factory}', but must be MODULE:FACTORY, such as nets:small for `small` in nets.py: names "
            "without .py and without folders"
        )
    where, _, name = factory.partition(":")
    home = _imported(where)
    if not hasattr(home, name):
        raise UserError(f"module '{where}' has no '{name}': name a class, a function or a network in it")
    found = getattr(home, name)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"'{factory}' is {type(found).__name__}, but must be a torch network or make one")
        try:
            found = found()
        except Exception as error:
            raise UserError(
                f"'{factory}' cannot be called ({_raised(error)}): name a function without arguments that returns the "
                "network"
            ) from error
    if not isinstance(found, nn.Module):
        raise UserError(f"'{factory}' makes {type(found).__name__}, but must make a torch.nn.Module")
    return found


def _imported(where: str) -> Any:
    try:
        return import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise UserError(
                f"module '{where}' cannot be imported ({error}): install what it needs"
            ) from error
        raise UserError(
            f"there is no module '{where}' in {Path.cwd()} or among what is installed: go to the folder of {where}.py"
        ) from error
    except Exception as error:
        raise UserError(f"module '{where}' cannot be imported ({_raised(error)}): mend it") from error


def _raised(error: Exception) -> str:
    """What their code raised, and where, if it came so far."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if frame.filename == __file__ else f", {Path(frame.filename).name}:{frame.lineno}"
    return f"{one_line(error)}{place}"


def load_weights(module: nn.Module, file: str) -> None:
    """Puts a state dict into the network; raises UserError for another format and for keys that do not fit."""
    tensors = _tensors(file)
    own = module.state_dict()
    shapes = [
        f"{key} has {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in tensors
        if key in own and tensors[key].shape != own[key].shape
    ]
    if shapes:
        raise UserError(
            f"weights '{file}' do not fit the network ({_some(shapes)}): give those of this network"
        )
    absent, left_over = module.load_state_dict(tensors, strict=False)
    # A layer that is there twice is stored once.
    stored = {own[key].data_ptr() for key in tensors.keys() & own.keys()}
    absent = [key for key in absent if own[key].data_ptr() not in stored]
    if absent or left_over:
        parts = [f"missing: {_some(absent)}"] * bool(absent) + [f"left over: {_some(left_over)}"] * bool(
            left_over
        )
        raise UserError(
            f"weights '{file}' do not fit the network ({'; '.join(parts)}): give those of this network"
        )


def _tensors(file: str) -> dict[str, Tensor]:
    path = Path(file)
    if path.suffix in PICKLES:
        raise UserError(
            f"weights is '{file}', a pickle, which can run anything when it is read, but must be .safetensors: where "
            "you trust it, `from safetensors.torch import save_file` and "
            f"`save_file(torch.load('{file}', weights_only=True), '{path.with_suffix('.safetensors')}')`"
        )
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"weights is '{file}', but there is no such file: check the path") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"weights '{file}' cannot be read ({one_line(error)}): give a .safetensors file"
        ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f", … ({len(names)})" if len(names) > 4 else "")
