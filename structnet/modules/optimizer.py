"""One place where an optimizer of torch is told what came, what went and what was cut down.

torch never looks again at a module that it was given the parameters of: what is grown afterwards would never be
trained, and what was removed would be trained on, the first error of the source of plastic paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.optim import Optimizer


def add(optimizer: Optimizer, parameters: Iterable[nn.Parameter], group: int = 0) -> None:
    """Parameters that came to be: trained from the next step on, with fresh state, as those of a group are."""
    known = ids_of(optimizer)
    for parameter in parameters:
        if id(parameter) in known:
            raise ValueError(f"a parameter of shape {tuple(parameter.shape)} is in the optimizer already")
        optimizer.param_groups[group]["params"].append(parameter)


def forget(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Parameters that are gone, with their state; raises ValueError for one that was never there."""
    gone = {id(parameter): parameter for parameter in parameters}
    if missing := gone.keys() - ids_of(optimizer):
        raise ValueError(f"{len(missing)} of {len(gone)} parameters are not in the optimizer")
    for group in optimizer.param_groups:
        group["params"] = [one for one in group["params"] if id(one) not in gone]
    for parameter in gone.values():
        optimizer.state.pop(parameter, None)


def exchange(
    optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, dim: int, kept: torch.Tensor
) -> None:
    """A parameter of which only some rows are left: state goes on for them as it was.

    new: what is in its place, of shape old's but for `dim`. kept: (rows left,) int64, their positions in `old` along
    `dim`, -1 for one that is new, whose state is 0.
    """
    for group in optimizer.param_groups:
        group["params"] = [new if one is old else one for one in group["params"]]
    state = optimizer.state.pop(old, None)
    if state is not None:
        optimizer.state[new] = {
            name: taken(value, dim, kept) if torch.is_tensor(value) and value.dim() else value
            for name, value in state.items()
        }


def taken(values: torch.Tensor, dim: int, kept: torch.Tensor) -> torch.Tensor:
    """These rows of a tensor along a dimension; zeros where kept is -1."""
    found = values.index_select(dim, kept.clamp(min=0))
    shape = [1] * values.dim()
    shape[dim] = len(kept)
    return torch.where((kept < 0).view(shape), torch.zeros_like(found), found)


def ids_of(optimizer: Optimizer) -> set[int]:
    """The parameters that an optimizer trains, by identity."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def state_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """The state of every parameter, by its name and that of the state, such as `stem.weight/exp_avg`."""
    found = {}
    for name, parameter in module.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}/{kind}"] = torch.as_tensor(value).detach()
    return found


def load_state_tensors(module: nn.Module, optimizer: Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Takes up what `state_tensors` gave, for the same module."""
    named = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        parameter = named[name]
        # Counts of steps stay where the optimizer keeps them, on the CPU.
        place = value.clone() if value.dim() == 0 else value.to(parameter.device, copy=True)
        optimizer.state[parameter][kind] = place
