"""A stream of sound as clips, a window each."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE, mono
from affetto.channels import Cutter
from affetto.inference.sources import Clip, Windows

STREAM = "the stream"


def windows_of_stream(blocks: Iterable[NDArray[Any]], rate: int, windows: Windows) -> Iterator[Clip]:
    """Yields the windows of a stream as soon as each is complete, and at its end what remains."""
    cutter = stream_cutter(windows)
    for piece in _resampled((mono(block) for block in blocks), rate):
        yield from (window_clip(*window) for window in cutter.push(piece))
    yield from (window_clip(*window) for window in cutter.rest())


def stream_cutter(windows: Windows) -> Cutter:
    """Returns what cuts a stream into windows."""
    return Cutter(round((windows.length or 0.0) * SAMPLE_RATE), round(windows.step * SAMPLE_RATE))


def window_clip(begin: int, samples: NDArray[np.float32], speaker: str | None = None) -> Clip:
    """Returns a window, which begins at sample ``begin`` of a stream, as a clip of its own."""
    return Clip(STREAM, (samples, SAMPLE_RATE), start=begin / SAMPLE_RATE, speaker=speaker)


def _resampled(pieces: Iterator[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    # The end is not known before it is there.
    for piece in chain(pieces, [None]):
        samples = np.zeros(0, np.float32) if piece is None else piece
        yield resampler.resample_chunk(samples, last=piece is None)
