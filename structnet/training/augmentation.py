"""What is done to the inputs of a training step: inputs dropped, images shifted."""

from __future__ import annotations

import torch

from structnet.errors import UserError


def dropped(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Each value set to 0 with this probability, the others scaled so that the mean stays (Srivastava et al. 2014).

    share: in [0, 1); rounded to a 65,536th, as 16 random bits decide on a value.
    """
    # Four decisions from each random number, and in place as numbers, not as booleans: 2.5 times as fast as torch.rand.
    raw = torch.empty(-(-images.numel() // 4), dtype=torch.int64, device=images.device)
    bits = raw.random_(-(2**63), None, generator=generator).view(torch.int16)[: images.numel()]
    least_kept = min(2**16 - 1, round(share * 2**16)) - 2**15
    keep = bits.ge_(least_kept).view(images.shape).to(images.dtype)
    return keep.mul_(images).div_(1 - share)


def shifted(images: torch.Tensor, reach: int, generator: torch.Generator) -> torch.Tensor:
    """Every image, (batch, ..., height, width), moved by a random whole number of pixels up to `reach` each way.

    What moves in from outside is 0. Raises UserError for inputs that are not images.
    """
    if images.dim() < 3:
        raise UserError("shift is for images, but this dataset has plain columns: leave --shift at 0")
    batch, height, width = len(images), images.shape[-2], images.shape[-1]
    flat = images.reshape(batch, -1, height, width)
    padded = torch.nn.functional.pad(flat, (reach, reach, reach, reach))
    wide = width + 2 * reach
    corner = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator, device=images.device)
    rows = torch.arange(height, device=images.device) * wide
    inside = (rows[:, None] + torch.arange(width, device=images.device)).view(1, -1)
    cell = inside + (corner[0] * wide + corner[1])[:, None]
    moved = padded.flatten(2).gather(2, cell[:, None, :].expand(-1, flat.shape[1], -1))
    return moved.view(images.shape)
