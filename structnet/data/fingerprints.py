"""What tells one dataset from another: its rows, their order, their labels, and how inputs were made of them.

A row is told by 128 bits of BLAKE2b: two rows that differ are taken for the same once in 2¹²⁸ times. The order of rows
and labels is told by SHA-256 over them. What is the same in any order is a sum of those 128 bits, in two halves modulo
2⁶⁴ (Bellare and Micciancio 1997: AdHash), with labels a sum of their products with an odd number of the label: rows or
labels that were exchanged by chance, not to deceive, give the same sum less than once in 2¹⁰⁰ times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset, Split

WHAT_SPLITS_ARE_FOR = {"train": "training", "validation": "validation", "test": "test"}
_WORD = np.dtype("<u8")
_ROW_BYTES = 16
_DIGITS = 32  # hexadecimal, of each entry


def data_fingerprint(data: Dataset) -> dict[str, str]:
    """The fingerprint of a dataset, to be kept as JSON and given to `changes`; MNIST takes 0.2 s.

    For each split, such as `train`: `train_rows` and `train_labels` in their order, `train_rows_anyhow` and
    `train_labelled_rows_anyhow` in any order. And `preprocessing`.
    """
    found = {"preprocessing": data.fingerprint[:_DIGITS]}
    for name in WHAT_SPLITS_ARE_FOR:
        found |= {f"{name}_{part}": digest for part, digest in _of_split(getattr(data, name)).items()}
    return found


def _of_split(split: Split) -> dict[str, str]:
    rows = _digests(split.stored.detach().cpu().numpy())
    labels = split.labels.detach().cpu().numpy()
    # A label of many numbers, such as the next characters of a text, is told as a row is.
    keys = labels.astype(_WORD)[:, None] * 2 if labels.ndim == 1 else _digests(labels)
    return {
        "rows": _in_order(rows),
        "labels": _in_order(labels.astype("<i8")),
        "rows_anyhow": _in_any_order(rows),
        "labelled_rows_anyhow": _in_any_order(rows * (keys | np.uint64(1))),
    }


def _digests(values: np.ndarray) -> np.ndarray:
    """A digest of each row of (n, ...): (n, 2) words."""
    count = len(values)
    if not count:
        return np.zeros((0, 2), _WORD)
    flat = np.ascontiguousarray(values).reshape(count, -1)
    rows, width = flat.view(np.uint8).reshape(-1).data, flat.strides[0]
    digests = b"".join(
        hashlib.blake2b(rows[start : start + width], digest_size=_ROW_BYTES).digest()
        for start in range(0, count * width, width)
    )
    return np.frombuffer(digests, _WORD).reshape(count, 2)


def _in_order(values: np.ndarray) -> str:
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:_DIGITS]


def _in_any_order(words: np.ndarray) -> str:
    """The sum of (n, 2) words as text; texts can be added again."""
    return "".join(f"{int(word):016x}" for word in words.sum(axis=0, dtype=_WORD))


def _together(fingerprint: Mapping[str, str], part: str) -> str:
    """The sum over all splits, so what is the same if rows only changed from one to another."""
    texts = [fingerprint[f"{name}_{part}"] for name in WHAT_SPLITS_ARE_FOR]
    return _in_any_order(np.array([[int(text[:16], 16), int(text[16:], 16)] for text in texts], _WORD))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two fingerprints, in words without a full stop; empty if nothing does."""

    def differ(part: str, name: str) -> bool:
        return before[f"{name}_{part}"] != now[f"{name}_{part}"]

    def moved(part: str) -> bool:
        return _together(before, part) == _together(now, part)

    splits = list(WHAT_SPLITS_ARE_FOR)
    others = [name for name in splits if differ("rows_anyhow", name)]
    kept = [name for name in splits if name not in others]
    shuffled = [name for name in kept if differ("rows", name)]
    relabelled = [
        name for name in kept if differ("labelled_rows_anyhow" if name in shuffled else "labels", name)
    ]
    found = []
    if others and moved("rows_anyhow"):
        found.append(f"the same rows in another order, so that {_listed(others)} rows have changed places")
        if not moved("labelled_rows_anyhow"):
            relabelled = splits
    elif others:
        found.append(f"other {_listed(others)} rows")
    if shuffled:
        found.append(f"the same {_listed(shuffled)} rows in another order")
    if relabelled:
        found.append(f"the labels of the {_listed(relabelled)} data are others than when it began")
    if before["preprocessing"] != now["preprocessing"]:
        found.append("another preprocessing")
    return ", and ".join(found)


def _listed(names: list[str]) -> str:
    first, *rest = (WHAT_SPLITS_ARE_FOR[name] for name in names)
    return " and ".join([", ".join([first, *rest[:-1]]), rest[-1]]) if rest else first
