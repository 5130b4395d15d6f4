"""Curves of an utterance: how loud, how voiced, how far from neutral; each from 0 to 1 within a corpus."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.features import FrontEnd
from affetto.models.classifier import EmotionClassifier

TAILS = (1.0, 99.0)
"""Percentiles of a corpus's frames that become 0 and 1."""

LEVELS = {"low": 0.0, "medium": 1.0, "high": 2.0, "normal": 0.0, "strong": 1.0}
"""Acted levels of intensity, as CREMA-D and RAVDESS name them, in their order."""

_SILENCE = 1e-10  # mean square of -100 dB
_WINDOWS_TOGETHER = 64


def levels(samples: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """Returns the level of each frame in dB against full scale, ``(T,)``, at least -100.

    Args:
        samples: ``(S,)``.
        front_end: whose frames; of kind ``"logmel"``, so centred on multiples of the hop.
    """
    left = front_end.window // 2
    squares = np.concatenate([[0.0], np.cumsum(np.asarray(samples, np.float64) ** 2)])
    starts = np.arange(front_end.frame_count(len(samples))) * front_end.hop - left
    ends = np.clip(starts + front_end.window, 0, len(samples))
    power = (squares[ends] - squares[np.clip(starts, 0, len(samples))]) / front_end.window
    return np.asarray(10 * np.log10(np.maximum(power, _SILENCE)), np.float32)


def squeezed(
    values: NDArray[np.floating], corpora: NDArray[np.int64]
) -> tuple[NDArray[np.float32], dict[int, tuple[float, float]]]:
    """Brings the frames of each corpus to 0 to 1: its 1st percentile becomes 0, its 99th 1, the rest between.

    Args:
        values: of all frames, ``(M,)``.
        corpora: number of the corpus of each, ``(M,)``.

    Returns:
        The new values, and by corpus what became 0 and what 1. A corpus that is the same throughout becomes
        0.
    """
    out = np.zeros(len(values), np.float32)
    ends = {}
    for corpus in np.unique(corpora).tolist():
        own = corpora == corpus
        low, high = (float(end) for end in np.percentile(values[own], TAILS))
        out[own] = ((values[own] - low) / max(high - low, 1e-9)).clip(0, 1)
        ends[corpus] = (low, high)
    return out, ends


def window_starts(samples: int, window: int, hop: int) -> NDArray[np.int64]:
    """Returns where windows begin: every hop, and one that ends with the last sample."""
    last = max(samples - window, 0)
    return np.unique(np.append(np.arange(0, last + 1, hop), last))


@torch.inference_mode()
def away_from(
    classifier: EmotionClassifier, label: int, samples: NDArray[np.float32], window: int, hop: int
) -> NDArray[np.float32]:
    """Follows one minus the probability of a class through an utterance, ``(T,)``, a value a hop.

    The probability is that of a window, which is said of its middle; between middles lie straight lines.
    An utterance shorter than a window is one window.

    Args:
        classifier: in evaluation mode.
        label: number of the class.
        samples: ``(S,)`` at 16 kHz.
        window: samples of a window.
        hop: samples from one to the next, and between the values that come out.
    """
    size = min(window, len(samples))
    starts = window_starts(len(samples), size, hop)
    found = []
    for part in np.array_split(starts, -(-len(starts) // _WINDOWS_TOGETHER)):
        waveforms = torch.from_numpy(np.stack([samples[start : start + size] for start in part.tolist()]))
        lengths = torch.full((len(part),), size)
        vectors: Tensor = classifier.embed(*classifier.front_end(waveforms, lengths))
        found.append(1 - classifier.probabilities(vectors)[:, label].numpy())
    middles = (np.arange(max(1, round(len(samples) / hop))) + 0.5) * hop
    return np.asarray(np.interp(middles, starts + size / 2, np.concatenate(found)), np.float32)


def level_numbers(values: list[object]) -> NDArray[np.float64] | None:
    """Returns acted levels as numbers that rise with intensity, ``(N,)``, NaN for none.

    Args:
        values: as the manifest has them: words of :data:`LEVELS`, or numbers.

    Returns:
        None where there is none, or one that is neither.
    """
    out = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        if value is None or value != value:
            continue
        try:
            out[place] = LEVELS[str(value)] if str(value) in LEVELS else float(str(value))
        except ValueError:
            return None
    return out if np.isfinite(out).any() else None
