"""Plan: the topologies of networks as plain arrays, in the order in which compiled steps walk through them.

A network's units behind the input are the rows of its workspace, in their order; images are the columns. Connections
that end at one unit and come from one group follow each other in the flat vector, a *run*: forward, a run is a sum of
source rows; backward, the products of the error of its unit with them. The error of a hidden unit is a sum over the
connections that leave it, which are listed once more, unit by unit. A link that is nearly full is not walked through:
it is a matrix for the moment of a product (`is_dense`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

# Columns of Plan.members. FIRST_...: where what belongs to the member begins in the array of that name.
FIRST_PARAMETER, CONNECTIONS, FIRST_LINK, FIRST_GROUP, FIRST_RUN, FIRST_HIDDEN, FIRST_OUT = range(7)
FIRST_CONNECTION, UNITS, PARAMETERS = range(7, 10)
# Columns of Plan.links. TARGET and SOURCE: first row of the group in the workspace, of the input in the inputs.
FROM_INPUT, SOURCE, N_IN, TARGET, N_OUT, START, STOP, LINK_RUN, LINK_RUN_STOP, IS_DENSE = range(10)

# Activations.
RELU, TANH, SIGMOID, SRELU = range(4)


class Plan(NamedTuple):
    """Several networks, one after the other. All positions are within a member.

    members: (members + 1, 10) int64, links: (links, 10) int64, columns as above. groups: first row of every group
    behind the input, and the end. target, stop: (runs,) uint32 row of the unit, and the connection behind the last.
    row: (connections,) uint32 row of each source, in the inputs or in the workspace; of a dense link the cell of its
    matrix. Of hidden units, out_stop:
    (units,) uint32 end of their part of out_connection and out_row, which hold the connections that leave them and
    the rows where these end. Connections of dense links are not among those.
    """

    members: np.ndarray
    links: np.ndarray
    groups: np.ndarray
    target: np.ndarray
    stop: np.ndarray
    row: np.ndarray
    out_stop: np.ndarray
    out_connection: np.ndarray
    out_row: np.ndarray

    @property
    def cells(self) -> int:
        """Of the largest matrix that is made for a moment."""
        dense = self.links[self.links[:, IS_DENSE] > 0]
        return int((dense[:, N_IN] * dense[:, N_OUT]).max(initial=0))

    @property
    def rows(self) -> int:
        """Of the workspace of the largest member."""
        return int(self.members[:-1, UNITS].max())

    def state_rows(self, code: int) -> int:
        """Of the workspace of activations of this code: those of SReLU need what was there before them."""
        return self.rows * (2 if code == SRELU else 1)


# Below this many connections, or this share of them, sparse rows take less time than a product of matrices.
DENSE_CONNECTIONS = 12_000
DENSE_SHARE = 0.4


def is_dense(n_in: int, n_out: int, connections: int) -> bool:
    """Whether a link is computed as a matrix: a rule, not a timing, so that runs repeat.

    `structnet bench links --rule` measures what it rests on.
    """
    return connections >= DENSE_CONNECTIONS and connections >= DENSE_SHARE * n_in * n_out


def plan_of(
    architecture: Sequence[int],
    source: np.ndarray,
    target: np.ndarray,
    links: Mapping[tuple[int, int], slice],
    shape_numbers: int = 0,
) -> Plan:
    """The plan of one network, told as a structnet.network.topology.Topology tells it."""
    inputs, outputs, connections = architecture[0], architecture[-1], len(source)
    first = np.concatenate([[0], np.cumsum(architecture)]) - inputs
    units = int(first[-1])
    row = source.astype(np.uint32)
    row[source >= inputs] -= np.uint32(inputs)
    table, walked = [], np.ones(connections, dtype=bool)
    runs: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for (from_group, to_group), span in links.items():
        n_in, n_out = architecture[from_group], architecture[to_group]
        begin, size = span.start, span.stop - span.start
        start_row = 0 if from_group == 0 else first[from_group]
        dense, first_run = is_dense(n_in, n_out, size), count
        ends_at = target[span] - inputs
        if dense:
            walked[span] = False
            row[span] = (ends_at.astype(np.int64) - first[to_group]) * n_in + row[span] - start_row
        else:
            ends = np.append(np.flatnonzero(ends_at[1:] != ends_at[:-1]), size - 1)
            runs.append((ends_at[ends], ends + 1 + begin))
            count += len(ends)
        table.append(
            (
                from_group == 0,
                start_row,
                n_in,
                first[to_group],
                n_out,
                begin,
                begin + size,
                first_run,
                count,
                dense,
            )
        )
    leaving = np.flatnonzero(walked & (source >= inputs))
    order = leaving[np.argsort(row[leaving], kind="stable")]
    hidden = units - outputs
    parameters = connections + units + shape_numbers * hidden
    header = (0, connections, 0, 0, 0, 0, 0, 0, units, parameters)
    end = (parameters, 0, len(table), len(first) - 1, count, hidden, len(order), connections, 0, 0)
    return Plan(
        np.array([header, end], dtype=np.int64),
        np.array(table, dtype=np.int64).reshape(len(table), 10),
        first[1:].astype(np.int64),
        _joined([rows for rows, _ in runs]),
        _joined([stops for _, stops in runs]),
        row,
        np.cumsum(np.bincount(row[leaving], minlength=hidden)).astype(np.uint32),
        order.astype(np.uint32),
        (target[order] - inputs).astype(np.uint32),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.uint32), *parts]).astype(np.uint32)


def joined(plans: Sequence[Plan]) -> Plan:
    """Several plans of one network each as one."""
    if len(plans) == 1:
        return plans[0]
    members = np.stack([plan.members[0] for plan in plans] + [np.zeros(10, dtype=np.int64)])
    for column in (
        FIRST_PARAMETER,
        FIRST_LINK,
        FIRST_GROUP,
        FIRST_RUN,
        FIRST_HIDDEN,
        FIRST_OUT,
        FIRST_CONNECTION,
    ):
        members[1:, column] = np.cumsum([plan.members[1, column] for plan in plans])
    return Plan(members, *(np.concatenate(parts) for parts in list(zip(*plans))[1:]))


@contextmanager
def one_blas_thread(plan: Plan) -> Iterator[None]:
    """Where links are products of matrices: these by one thread, as all the rest."""
    if plan.cells == 0:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
