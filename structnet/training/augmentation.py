"""What is done to the inputs of a training step by torch: inputs dropped, images shifted.

The noise is that of structnet.compiled.noise, number for number: counters that are mixed, so that a step needs no
generator, and a share of a batch has the noise that it would have in the whole.
"""

from __future__ import annotations

import torch

from structnet.errors import UserError

_UNITS = 0x2545F4914F6CDD1D  # by which the line of units begins elsewhere than that of inputs
_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def mixed(numbers: torch.Tensor) -> torch.Tensor:
    """int64, each a function of all bits of another: the last step of SplitMix64 (Steele et al. 2014)."""
    numbers = (numbers ^ _shifted_right(numbers, 30)) * _FIRST
    numbers = (numbers ^ _shifted_right(numbers, 27)) * _SECOND
    return numbers ^ _shifted_right(numbers, 31)


def _shifted_right(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """As if they had no sign."""
    moved: torch.Tensor = (numbers >> bits) & (2 ** (64 - bits) - 1)
    return moved


def key_of(seed: int, step: int) -> int:
    """What the noise of a step is mixed from; seed: of all steps, below 2^63."""
    return int(keys_of(seed, range(step, step + 1)))


def keys_of(seed: int, steps: range) -> torch.Tensor:
    """(steps,) int64: `key_of` of each."""
    return mixed(torch.arange(steps.start, steps.stop) * _GOLDEN + _wrapped(seed))


def _wrapped(number: int) -> int:
    """As 64 bits with a sign."""
    return (number + 2**63) % 2**64 - 2**63


def _advanced(key: int | torch.Tensor, by: int) -> int | torch.Tensor:
    """key + by in 64 bits; sums of tensors wrap by themselves."""
    return _wrapped(key + by) if isinstance(key, int) else key + _wrapped(by)


def dropped(inputs: torch.Tensor, share: float, key: int | torch.Tensor, first: int = 0) -> torch.Tensor:
    """Each value set to 0 with this probability, the others scaled so that the mean stays (Srivastava et al. 2014).

    inputs: (features, images); a new tensor comes back. share: in [0, 1); rounded to a 65,536th, as 16 random
    bits decide on a value. key: of the step (`key_of`), or a tensor of it, () int64, on the device of the
    inputs. first: the position of the first image in its batch.
    """
    features, images = inputs.shape
    keep = _kept(torch.arange(features, device=inputs.device), images, share, key, first)
    return torch.where(keep, inputs * (1 / (1 - share)), torch.zeros_like(inputs))


def drop_masks(
    numbers: torch.Tensor, like: torch.Tensor, share: float, key: int | torch.Tensor, first: int = 0
) -> torch.Tensor:
    """Factors for hidden units, (units, images): 0 with this probability, else 1 ÷ (1 - share).

    numbers: (units,) int64, that of each among the hidden units of its network. like: a tensor of as many images,
    (…, images), and of the number type. The rest as of `dropped`.
    """
    of_units = _wrapped(key ^ _UNITS) if isinstance(key, int) else key ^ _UNITS
    return _kept(numbers, like.shape[-1], share, of_units, first).to(like.dtype) * (1 / (1 - share))


def _kept(
    numbers: torch.Tensor, images: int, share: float, key: int | torch.Tensor, first: int
) -> torch.Tensor:
    """(numbers, images) booleans."""
    before = first // 4
    words = (first + images + 3) // 4 - before
    line = (numbers << 32) + _advanced(key, before)
    drawn = mixed((line[:, None] + torch.arange(words, device=numbers.device)) * _GOLDEN)
    decisions = drawn.view(torch.int16)[:, first - before * 4 :][:, :images].int() & 0xFFFF
    return decisions >= min(2**16 - 1, round(share * 2**16))


def moved(
    images: torch.Tensor, reach: int, key: int | torch.Tensor, first: int = 0, *, flip: bool = False
) -> torch.Tensor:
    """Every image, (batch, ..., height, width), moved by a random whole number of pixels up to `reach` each way.

    What moves in from outside is 0. flip: half of them are then turned left to right. key, first: as of `dropped`.
    Raises UserError for inputs that are not images.
    """
    check_augmentation(reach, flip, tuple(images.shape[1:]))
    batch, height, width = len(images), images.shape[-2], images.shape[-1]
    flat = images.reshape(batch, -1, height, width)
    padded = torch.nn.functional.pad(flat, (reach, reach, reach, reach))
    wide = width + 2 * reach
    bits = mixed(torch.arange(first, first + batch, device=images.device) + _advanced(key, 2**63))
    down = _shifted_right(bits, 33) % (2 * reach + 1)
    right = (_shifted_right(bits, 2) & 0x7FFFFFFF) % (2 * reach + 1)
    rows = torch.arange(height, device=images.device) * wide
    inside = (rows[:, None] + torch.arange(width, device=images.device)).view(1, -1)
    cell = inside + (down * wide + right)[:, None]
    found = padded.flatten(2).gather(2, cell[:, None, :].expand(-1, flat.shape[1], -1)).view(images.shape)
    if not flip:
        return found
    is_turned = (bits & 1).bool().view(-1, *[1] * (images.dim() - 1))
    return torch.where(is_turned, found.flip(-1), found)


def check_augmentation(reach: int, flip: bool, shape: tuple[int, ...]) -> None:
    """Raises UserError if inputs of this shape, without the batch, are no images and should be moved or turned."""
    if reach and len(shape) < 2:
        raise UserError("shift is for images, but this dataset has plain columns: leave --shift at 0")
    if flip and len(shape) < 2:
        raise UserError("flip is for images, but this dataset has plain columns: leave --flip out")
