"""Every export is held against its network on the whole test set, before it is where it was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from structnet.errors import UserError
from structnet.export.model import BLOCK, Model
from structnet.export.registry import Form, write

TOLERANCE = 1e-5  # of logits, times 1 + the largest of them
INT8_TOLERANCE = 0.01  # of accuracy
Run = Callable[[np.ndarray], np.ndarray]
OnPart = Callable[[int, int], None]  # told how much is done, and of how much


def in_silence(done: int, total: int) -> None:
    """Where nobody is told."""


class Check(NamedTuple):
    """holds: whether what was written may stay. line: what was found, a sentence. way_out: where it does not hold."""

    holds: bool
    line: str
    way_out: str = "give a larger --tolerance if that is enough"


@dataclass(frozen=True)
class Exported:
    """files: where they are now. lines: what a user should know about them. check: a sentence on how it was checked."""

    files: list[Path]
    lines: list[str]
    check: str


def export(
    model: Model,
    form: Form,
    output: Path,
    raw: np.ndarray,
    labels: np.ndarray,
    *,
    tolerance: float | None = None,
    integers: Any = None,
    on_part: OnPart = in_silence,
) -> Exported:
    """Writes a form into a folder, which is made, in the place of files of these names, once its check has held.

    raw, labels: the test set, (n, *raw_shape) and class numbers (n,). tolerance: as for `compare`, with integers as for
    `compare_integers`. integers: of int8, from structnet.export.fine_tune. on_part: told how many inputs are checked.
    Raises UserError where the check does not
    hold or the folder cannot be written to; nothing is left behind then.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=_nearest(output)) as place:
            given = {} if integers is None else {"integers": integers}
            written = write(form, model, Path(place), **given)
            if written.run is None:
                check = Check(True, f"Not checked: {written.reason}.")
            elif integers is None:
                check = compare(model.logits, written.run, raw, tolerance, block=model.block, on_part=on_part)
            else:
                reference = _in_one_scale(integers)
                check = compare_integers(
                    model.logits, reference, written.run, raw, labels, tolerance, on_part=on_part
                )
            if not check.holds:
                raise UserError(f"{check.line} Nothing was written: {check.way_out}")
            output.mkdir(parents=True, exist_ok=True)
            files = [output / file.name for file in written.files]
            for file, target in zip(written.files, files):
                file.replace(target)
    except OSError as error:
        raise UserError(
            f"output is '{output}', but cannot be written to ({error.strerror or error}): name another folder"
        ) from error
    return Exported(files, written.lines, check.line)


def compare(
    model: Run,
    written: Run,
    raw: np.ndarray,
    tolerance: float | None = None,
    *,
    block: int = BLOCK,
    on_part: OnPart = in_silence,
) -> Check:
    """Logits of a network and of what was written, on raw values (n, *raw_shape), so many at once.

    tolerance: what they may differ by, times 1 + the largest logit; 1e-5 when None.
    """
    largest, most, changed = 0.0, 0.0, 0
    for some in _blocks(raw, block, on_part):
        expected, found = model(some), written(some)
        # A maximum of numpy keeps NaN, which holds no bound.
        largest = float(np.maximum(largest, np.abs(found - expected).max()))
        most = float(np.maximum(most, np.abs(expected).max()))
        changed += int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    allowed = (TOLERANCE if tolerance is None else tolerance) * (1 + most)
    line = (
        f"Logits differ by at most {largest:.1e} on {len(raw):,} test inputs (allowed {allowed:.1e}), "
        f"{changed:,} predictions change."
    )
    return Check(largest <= allowed, line)


def compare_integers(
    model: Run,
    reference: Run,
    written: Run,
    raw: np.ndarray,
    labels: np.ndarray,
    tolerance: float | None = None,
    *,
    on_part: OnPart = in_silence,
) -> Check:
    """Predictions of a network and of integers that were written, which have to be exactly those of their reference.

    tolerance: of accuracy, in [0, 1], that may be lost; 0.01 when None.
    """
    changed, unequal, right, right_before = 0, 0, 0, 0
    for start, block in zip(range(0, len(raw), BLOCK), _blocks(raw, BLOCK, on_part)):
        before, found = model(block).argmax(axis=1), written(block)
        unequal += int((found != reference(block)).any(axis=1).sum())
        now, known = found.argmax(axis=1), labels[start : start + BLOCK]
        changed += int((now != before).sum())
        right, right_before = right + int((now == known).sum()), right_before + int((before == known).sum())
    accuracy, accuracy_before = right / len(raw), right_before / len(raw)
    allowed = INT8_TOLERANCE if tolerance is None else tolerance
    if unequal:
        line = (
            f"int8 is computed otherwise than by its reference for {unequal:,} of {len(raw):,} test inputs."
        )
        return Check(False, line, "leave out --int8, and report it")
    line = (
        f"int8 has accuracy {accuracy:.2%} on {len(raw):,} test inputs, float32 {accuracy_before:.2%} (allowed to lose "
        f"{allowed:.2%}), {changed:,} predictions change; every logit is that of its reference."
    )
    return Check(accuracy_before - accuracy <= allowed, line)


def _in_one_scale(integers: Any) -> Run:
    """The reference of an integer network, whose logits are whole numbers, as logits."""

    def run(raw: np.ndarray) -> np.ndarray:
        found: np.ndarray = integers.logits(raw) * integers.scale
        return found

    return run


def _blocks(raw: np.ndarray, size: int, on_part: OnPart) -> Iterator[np.ndarray]:
    for start in range(0, len(raw), size):
        on_part(start, len(raw))
        yield raw[start : start + size]


def _nearest(folder: Path) -> Path:
    """The folder itself or the nearest one above it that is there: on the same disk, so that files can be moved."""
    absolute = folder.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())
