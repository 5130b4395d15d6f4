"""Signals: how channels become one, and how what comes in pieces is cut into blocks that may overlap.

Channels are averaged, but for those that are silent, or that would cancel each other. Files and streams are
cut alike.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_DEAD = 1e-4  # of the loudest channel's power
_CANCELS = 0.2  # of the power that channels without relation leave


def mixed(samples: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Averages channels: ``(S, channels)`` or ``(S,)`` to ``(S,)``."""
    if samples.ndim == 1:
        return samples
    if samples.shape[1] == 1:
        return np.asarray(samples[:, 0])
    return np.asarray(samples.mean(axis=1) if weights is None else samples @ weights)


def gram_of(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the inner products of channels, ``(channels, channels)``."""
    if samples.ndim == 1 or samples.shape[1] == 1:
        return np.ones((1, 1))
    wide = samples.astype(np.float64)
    return np.asarray(wide.T @ wide)


def channel_weights(gram: NDArray[np.float64]) -> tuple[NDArray[np.float32] | None, str]:
    """Returns how much each channel counts, None where all count alike, and a note on those that do not."""
    if len(gram) == 1:
        return None, ""
    power = np.diag(gram)
    if not np.isfinite(gram).all() or not power.max() > 0:
        return None, ""
    live = power > _DEAD * power.max()
    weights, note = live / live.sum(), ""
    if not live.all():
        silent = ", ".join(str(number + 1) for number in np.flatnonzero(~live))
        note = f"of {len(live)} channels, those that are silent are left out: {silent}"
    # Channels without relation keep 1 / N of their mean power in their average, opposite ones nothing.
    if weights @ gram @ weights < _CANCELS * power[live].mean() / live.sum():
        weights = np.arange(len(power)) == power.argmax()
        note = f"the channels cancel each other out; channel {power.argmax() + 1} is taken alone"
    return None if weights.all() else weights.astype(np.float32), note


class Cutter:
    """Cuts a signal into blocks of ``size`` samples, one every ``hop``, and holds few of them."""

    def __init__(self, size: int, hop: int) -> None:
        self.size, self.hop = size, hop
        self.begin = 0  # where the next block begins
        self._covered = 0  # where the last block ended
        self._held = np.zeros(0, np.float32)

    def push(self, piece: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Takes the next samples ``(S,)``; yields complete blocks, each with its first sample."""
        self._held = np.concatenate([self._held, piece]) if len(self._held) else piece
        while len(self._held) >= self.size:
            begin, block = self.begin, self._held[: self.size].copy()
            self._covered, self.begin = begin + self.size, begin + self.hop
            self._held = self._held[self.hop :]
            yield begin, block

    def rest(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields what remains, a shorter block, if it holds something that no block before it held."""
        if self.begin + len(self._held) > self._covered:
            yield self.begin, self._held
