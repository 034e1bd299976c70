"""Numbers as small pictures: what an image shows, and where something happens on it."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

# Dark to light, in blue: read by brightness alone.
RAMP = ((13, 20, 33), (42, 120, 196), (243, 249, 255))


def is_image(shape: Sequence[int]) -> bool:
    """Whether numbers of this shape are an image: height × width, or that of one or three channels."""
    return len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))


def grey_or_colour(values: Sequence[float], shape: Sequence[int]) -> bytes:
    """An image as a PNG. values: flattened, in [0, 1] or of any range, which is then spread over it."""
    import numpy as np

    image = np.asarray(values, dtype=float).reshape(shape)
    image = image.transpose(1, 2, 0) if image.ndim == 3 else image[..., None]
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        image = (image - low) / ((high - low) or 1)
    pixels = np.rint(255 * image).astype(np.uint8)
    return _png(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def heat(values: Sequence[float], shape: Sequence[int], top: float | None = None) -> bytes:
    """Counts on an image as a PNG, the lighter the more; channels are added up. top: what is lightest, or the most."""
    import numpy as np

    counts = np.asarray(values, dtype=float).reshape(shape)
    counts = counts.sum(axis=0) if counts.ndim == 3 else counts
    share = counts / (top or counts.max() or 1)
    steps = np.linspace(0, 1, len(RAMP))
    pixels = np.stack(
        [np.interp(share, steps, [colour[channel] for colour in RAMP]) for channel in range(3)], axis=-1
    )
    return _png(np.rint(pixels).astype(np.uint8))


def _png(pixels: object) -> bytes:
    from PIL import Image

    written = BytesIO()
    Image.fromarray(pixels).save(written, "png", optimize=True)  # type: ignore[arg-type]
    return written.getvalue()
