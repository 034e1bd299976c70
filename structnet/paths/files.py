"""Networks with plastic paths on disk: tensors, and where the paths are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from structnet.errors import UserError
from structnet.modules.files import read_module, write_module
from structnet.paths.network import Plan, PlasticNetwork
from structnet.paths.registry import bare_network

KIND = "plastic paths"


def about_network(network: PlasticNetwork) -> dict[str, Any]:
    """Plain data from which `rebuilt` makes a network of the same structure."""
    return {"kind": KIND, "plan": asdict(network.plan), "places": network.places}


def rebuilt(about: Mapping[str, Any]) -> PlasticNetwork:
    """A network of this structure, on the CPU, whose values do not matter as others will be loaded."""
    plan = about["plan"]
    return bare_network(
        Plan(**{**plan, "shape": tuple(plan["shape"])}), [tuple(one) for one in about["places"]]
    )


def save_plastic(path: str, network: PlasticNetwork) -> None:
    """Writes `PATH.safetensors` and `PATH.json`. path: a local path or an fsspec URL. Raises StoreFailed."""
    write_module(path, network.state_dict(), about_network(network))


def load_plastic(path: str) -> PlasticNetwork:
    """The network that `save_plastic` wrote, in evaluation, on the CPU; the same logits to the bit.

    Raises UserError for what is missing, damaged, or no network of plastic paths.
    """
    tensors, about = read_module(path)
    if about.get("kind") != KIND:
        raise UserError(f"{path} is no network with plastic paths: give one that `structnet paths` saved")
    try:
        network = rebuilt(about)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}.json and its tensors do not fit: use another one") from error
    return network.eval()
