"""How channels become one: averaged, but for those that are silent, or that would cancel each other."""

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
