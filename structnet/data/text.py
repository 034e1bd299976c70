"""A text file of the user's as windows of characters, each with those that follow: what a language model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Dataset, Split
from structnet.errors import UserError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for what the training text does not have
LEAST_WINDOWS = 20


def load_text(path: str, length: int) -> Dataset:
    """Characters of a UTF-8 file: the first 80 % to train, 10 % each to validate and test.

    Inputs are windows of so many characters, side by side, and labels the characters behind each: both (windows,
    length) int32 numbers of characters, the classes. Raises UserError for what is no text, or is too short.
    """
    text = read_text(path)
    known = sorted(set(text[: _ends(len(text))[0]]) - {UNKNOWN})
    number = {character: place for place, character in enumerate([UNKNOWN, *known])}
    numbers = np.array([number.get(character, 0) for character in text], dtype=np.int32)
    about = {"kind": "text", "length": length, "characters": [UNKNOWN, *known]}
    return windows_of(Path(path).name, numbers, length, (UNKNOWN, *known), about)


def load_tokens(path: str, length: int, encode: Callable[[str], Sequence[int]], size: int) -> Dataset:
    """As `load_text`, of the tokens of a language model: encode makes them of a text; there are `size` kinds."""
    numbers = np.array(encode(read_text(path)), dtype=np.int32)
    return windows_of(Path(path).name, numbers, length, (), {"kind": "tokens", "length": length}, size)


def read_text(path: str) -> str:
    """A file as text; raises UserError where there is none, or it is not UTF-8."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"text '{path}' cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"text '{path}' is not text: byte {error.start} is no UTF-8; give a plain text file, converted if it is "
            "in another encoding"
        ) from error
    if "\0" in text:
        raise UserError(
            f"text '{path}' is not text: character {text.index(chr(0))} is a zero byte; give a text file"
        )
    return text


def windows_of(
    name: str,
    numbers: np.ndarray,
    length: int,
    names: tuple[str, ...],
    about: dict[str, Any],
    size: int | None = None,
) -> Dataset:
    """A dataset of numbers of characters or tokens, (n,) int32; size: kinds there are, by default as many as names."""
    if length < 2:
        raise UserError(f"length is {length}, but must be at least 2: it is the characters of a window")
    parts = np.split(numbers, _ends(len(numbers)))
    least = min(len(part) - 1 for part in parts) // length
    if least < LEAST_WINDOWS:
        raise UserError(
            f"text has {len(numbers):,} characters or tokens, but windows of {length} need at least "
            f"{10 * (LEAST_WINDOWS * length + 1):,}: give a longer text or a smaller --length"
        )
    train, validation, test = (_windows(part, length) for part in parts)
    return Dataset(
        name, train, validation, test, classes=size or len(names), class_names=names, preprocessing=about
    )


def _ends(count: int) -> list[int]:
    return [count * 8 // 10, count * 9 // 10]


def _windows(numbers: np.ndarray, length: int) -> Split:
    count = (len(numbers) - 1) // length
    inputs, labels = (numbers[start : start + count * length].reshape(count, length) for start in (0, 1))
    return Split(torch.from_numpy(inputs.copy()), torch.from_numpy(labels.copy()))
