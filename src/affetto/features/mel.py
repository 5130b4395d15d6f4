"""Triangular mel filters, those of librosa and of Kaldi, and power spectra summed into them."""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Limits = tuple[float, float]
"""Lower edge of the lowest band and upper edge of the highest, in Hz."""

_KALDI_SCALE = 32768.0  # Kaldi reads 16-bit numbers; its floor is meant for that scale
_CPU_FRAMES = 512  # stay in the processor's cache
_GPU_FRAMES = 1 << 16  # a GPU wants much at once


@lru_cache(maxsize=16)
def filterbank(
    length: int, size: int, rate: int, limits: Limits, bins: int, taper: str | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Returns the bands of a Fourier transform, ``(size // 2 + 1, bins)``, and the window ``(length,)``.

    Without a taper: librosa's triangles in Hz, of unit area, and a Hann window. With ``"povey"`` or
    ``"hamming"``: Kaldi's triangles in mel, up to a factor, without the last frequency, and this window.
    """
    hz = np.arange(size // 2 + 1, dtype=np.float64) * (rate / size)
    phases = 2 * np.pi * np.arange(length, dtype=np.float64)
    if taper is None:
        edges, place = _slaney_edges(limits, bins), hz
        window = 0.5 - 0.5 * np.cos(phases / length)
    else:
        edges, place = _evenly(np.log1p(np.array(limits) / 700), bins), np.log1p(hz / 700)
        cosine = np.cos(phases / max(length - 1, 1))
        window = 0.54 - 0.46 * cosine if taper == "hamming" else (0.5 - 0.5 * cosine) ** 0.85
        window *= _KALDI_SCALE
    rising = (place[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - place[:, None]) / np.diff(edges)[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    if taper is None:
        weights *= 2.0 / (edges[2:] - edges[:-2])
    else:
        weights[-1] = 0
    return torch.tensor(weights).float().to(device), torch.tensor(window).float().to(device)


@lru_cache(maxsize=16)
def band_centres(limits: Limits, bins: int, device: torch.device) -> Tensor:
    """Returns the middles of librosa's bands in Hz, ``(bins,)``, on a device."""
    return torch.tensor(_slaney_edges(limits, bins)[1:-1]).float().to(device)


def band_places(hz: Tensor, limits: Limits, bins: int) -> Tensor:
    """Returns where frequencies lie between the middles of librosa's bands; 0 is the first, 1 the second."""
    low, high = _slaney_mel(np.array(limits)).tolist()
    mel = torch.where(hz < 1000, hz * (3 / 200), 15 + (hz / 1000).clamp_min(1).log() * (27 / math.log(6.4)))
    return torch.as_tensor((mel - low) / (high - low) * (bins + 1) - 1)


def band_powers(
    frames: Tensor, window: Tensor, weights: Tensor, size: int, offsets: Tensor | None, firsts: Tensor | None
) -> Tensor:
    """Returns power spectra of windowed frames ``(B, T, window)``, summed into bands, ``(B, T, bins)``.

    Frames are a view, copied a few at a time. From each its offset ``(B, T, 1)`` is subtracted, and before
    that its first sample replaced by that of ``firsts (B, T)``. ``size`` is the length of the transform.
    """
    powers = frames.new_empty(*frames.shape[:2], weights.shape[1])
    for part in parts(frames):
        chunk = frames[part] * window if offsets is None else (frames[part] - offsets[part]).mul_(window)
        if firsts is not None and offsets is not None:
            chunk[..., 0] = firsts[part] - offsets[part][..., 0] * window[0]
        squares = torch.view_as_real(torch.fft.rfft(chunk, n=size)).square_()
        powers[part] = (squares[..., 0] + squares[..., 1]) @ weights
    return powers


def parts(frames: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yields slices of rows and of frames that cut ``(B, T, ...)`` into pieces that suit the device."""
    rows, count = frames.shape[:2]
    step = _GPU_FRAMES if frames.is_cuda else _CPU_FRAMES
    together = max(1, step // max(count, 1))
    for row in range(0, rows, together):
        for first in range(0, count, step):
            yield slice(row, row + together), slice(first, first + step)


def _slaney_edges(limits: Limits, bins: int) -> NDArray[np.float64]:
    mel = _evenly(_slaney_mel(np.array(limits)), bins)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


def _evenly(limits: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    return np.asarray(limits[0] + (limits[1] - limits[0]) * np.arange(bins + 2) / (bins + 1), np.float64)


def _slaney_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: straight up to 1000 Hz at 15 mel, then 27 mel for each factor of 6.4."""
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))
