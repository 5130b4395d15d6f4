"""Curves of an utterance that need no training: loudness, and the distance from neutral by a recogniser."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from affetto.features import FrontEnd
from affetto.models.classifier import EmotionClassifier

NEUTRAL = "neutral"
"""The class that intensity is measured from."""

TAILS = (1.0, 99.0)
"""Percentiles that become 0 and 1, so that neither a click nor digital silence decides on the scale."""

ACTED = {"low": 0.0, "medium": 1.0, "high": 2.0, "normal": 0.0, "strong": 1.0}
"""Acted intensities, as CREMA-D and RAVDESS name them, as numbers that rise."""

_SILENCE = 1e-10  # mean square of -100 dB
_WINDOWS_TOGETHER = 64


def loudness(samples: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """Returns the level of each log-mel frame in dB against full scale, ``(T,)``, at least -100."""
    left = front_end.window // 2
    squares = np.concatenate([[0.0], np.cumsum(np.asarray(samples, np.float64) ** 2)])
    starts = np.arange(front_end.frame_count(len(samples))) * front_end.hop - left
    ends = np.clip(starts + front_end.window, 0, len(samples))
    power = (squares[ends] - squares[np.clip(starts, 0, len(samples))]) / front_end.window
    return np.asarray(10 * np.log10(np.maximum(power, _SILENCE)), np.float32)


def scaled(
    values: NDArray[np.floating], reference: NDArray[np.floating]
) -> tuple[NDArray[np.floating], tuple[float, float]]:
    """Scales values so that :data:`TAILS` of a reference become 0 and 1, and clips; returns these two too."""
    low, high = (float(end) for end in np.percentile(reference, TAILS))
    return ((values - low) / max(high - low, 1e-9)).clip(0, 1), (low, high)


def scaled_by_corpus(
    curves: Sequence[NDArray[np.float32]], corpora: Iterable[str]
) -> tuple[NDArray[np.float32], dict[str, tuple[float, float]]]:
    """Scales the frames of each corpus, see :func:`scaled`; a corpus that is constant becomes 0.

    Returns all values one after another, and by corpus what became 0 and what 1.
    """
    names, numbers = np.unique(list(corpora), return_inverse=True)
    values = np.concatenate(curves)
    corpus = np.repeat(numbers, [len(curve) for curve in curves])
    ends = {}
    for number, name in enumerate(names.tolist()):
        own = corpus == number
        values[own], ends[name] = scaled(values[own], values[own])
    return values, ends


def window_starts(samples: int, window: int, hop: int) -> NDArray[np.int64]:
    """Returns where windows begin: every hop, and one that ends with the last sample."""
    last = max(samples - window, 0)
    return np.unique(np.append(np.arange(0, last + 1, hop), last))


@torch.inference_mode()
def distance_from_class(
    classifier: EmotionClassifier, label: int, samples: NDArray[np.float32], window: int, hop: int
) -> NDArray[np.float32]:
    """Returns one minus the probability of a class for windows of an utterance, ``(T,)``, a value a hop.

    The value of a window stands at its middle; between middles it is interpolated. An utterance shorter than
    ``window`` samples is one window.
    """
    size = min(window, len(samples))
    starts = window_starts(len(samples), size, hop)
    found = []
    for part in np.array_split(starts, -(-len(starts) // _WINDOWS_TOGETHER)):
        waveforms = torch.from_numpy(np.stack([samples[start : start + size] for start in part.tolist()]))
        lengths = torch.full((len(part),), size)
        vectors = classifier.embed(*classifier.front_end(waveforms, lengths))
        found.append(1 - classifier.answers(vectors)[:, label].numpy())
    middles = (np.arange(max(1, round(len(samples) / hop))) + 0.5) * hop
    return np.asarray(np.interp(middles, starts + size / 2, np.concatenate(found)), np.float32)


def acted_intensities(values: pd.Series) -> NDArray[np.float64]:
    """Returns words of :data:`ACTED`, or numbers, as numbers ``(N,)``; all NaN where one is neither."""
    found = pd.to_numeric(values.map(lambda value: ACTED.get(value, value)), errors="coerce")
    return np.where(found.notna().equals(values.notna()), found.to_numpy(np.float64), np.nan)
