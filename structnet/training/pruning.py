"""A network pruned to a size: at once by magnitude, or little by little while it trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.network.edit import disconnect, fold
from structnet.network.network import StructNet
from structnet.training.fit import fit


def pruned_to(network: StructNet, parameters: int, data: Dataset | None = None, **training: Any) -> StructNet:
    """The network with at most so many parameters; the given one stays as it is.

    Without data the connections of least magnitude go, of all links together, and with them the units that lose their
    way in or out, whose constants are folded into the biases that they feed (Han et al. 2015, without training). With
    data it trains while connections go and others come: `structnet.training.fit`, whose options `training` has. One
    that is small enough already is returned as it is. Raises UserError for a size that no network with these outputs
    can have.
    """
    smallest = network.architecture[-1] + 1
    if parameters < smallest:
        raise UserError(
            f"the limit is {parameters} parameters, but must be at least {smallest}: every output has a bias, and one "
            "connection is left"
        )
    if network.parameter_count <= parameters:
        return network.fork()
    if data is None:
        return _by_magnitude(network, parameters)
    trained = network.fork()
    fit(trained, data, max_parameters=parameters, **training)
    return trained


def _by_magnitude(network: StructNet, parameters: int) -> StructNet:
    """Without as few connections as bring it to the size, found by bisection."""
    magnitude = network.folded().values.detach()[: network.connection_count].abs().cpu().numpy()
    weakest = np.argsort(magnitude, kind="stable")

    def without(count: int) -> StructNet:
        return fold(disconnect(network, weakest[:count]).network).network

    too_few, enough = -1, min(network.connection_count, network.parameter_count - parameters)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if without(middle).parameter_count <= parameters:
            enough = middle
        else:
            too_few = middle
    return without(enough)
