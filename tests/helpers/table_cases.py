"""Rows for the tests of tables, and ways to damage a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DAMAGES = ["truncated", "empty", "no footer", "flipped", "one bit", "no key", "other type"]


def epoch(number: int, loss: float | None = None, network: str = "0") -> dict[str, Any]:
    return {"trial": "", "network": network, "epoch": number, "loss": loss}


def candidate_row(
    shape: tuple[int, ...],
    density: float,
    rng_seed: int,
    parameters: int | None,
    accuracy: float | None,
    status: str = "finished",
) -> dict[str, Any]:
    """A row of `networks`, of a network that may be the smallest seed."""
    return {
        "network": f"{shape}-{density}-{rng_seed}",
        "architecture": list(shape),
        "density": density,
        "rng_seed": rng_seed,
        "parameters": parameters,
        "accuracy": accuracy,
        "status": status,
    }


def damage(path: Path, how: str) -> None:
    """Damages a part of the table `epochs`: its bytes, or what it holds."""
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no footer":
        path.write_bytes(data[:-8] + bytes(8))
    elif how == "flipped":
        path.write_bytes(data[:4] + bytes(120) + data[124:])
    elif how == "one bit":
        at = _middle_of_losses(path)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif how == "no key":
        pq.write_table(pa.table({"epoch": [5], "loss": [0.5]}), path)
    elif how == "other type":
        pq.write_table(pa.table({"trial": [""], "network": ["0"], "epoch": ["first"]}), path)


def _middle_of_losses(path: Path) -> int:
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    losses = next(column for column in columns if column.path_in_schema == "loss")
    first = losses.dictionary_page_offset or losses.data_page_offset
    return int(first + losses.total_compressed_size // 2)
