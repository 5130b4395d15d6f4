"""Long batches, worked through in pieces that stay in the processor's cache."""

from collections.abc import Iterator

from torch import Tensor

_CPU_FRAMES = 512
_GPU_FRAMES = 1 << 16  # a GPU wants much at once


def parts(frames: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cuts ``(B, T, ...)`` into pieces of about as many frames as the device likes.

    Yields:
        Slices of rows and of frames; together they cover everything once.
    """
    rows, count = frames.shape[:2]
    step = _GPU_FRAMES if frames.is_cuda else _CPU_FRAMES
    together = max(1, step // max(count, 1))
    for row in range(0, rows, together):
        for first in range(0, count, step):
            yield slice(row, row + together), slice(first, first + step)
