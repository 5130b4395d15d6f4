"""Intensity without a network: curves by loudness or by a recogniser, and rankers of utterances.

A linear ranker is fitted on pairs (Parikh and Grauman 2011, "Relative attributes", section 3.1): ordered
ones, in which the first has more of it, and similar ones, whose scores should be close.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from affetto.features import FrontEnd
from affetto.models.classifier import EmotionClassifier
from affetto.vectors.spaces import members

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


_ROUNDS = 200


def fit_ranker(
    vectors: NDArray[np.floating],
    speakers: NDArray[np.int64],
    more: NDArray[np.bool_],
    cost: float,
    similar: float = 1.0,
) -> NDArray[np.float64]:
    """Fits a linear ranker on all pairs within speakers; returns its direction ``(D,)``, zero without pairs.

    ``vectors (N, D)`` are standardised. In an ordered pair, of an utterance that has ``more`` of it and one
    that has not, the difference of scores should be at least 1; what is missing counts squared. In a similar
    pair, of two that both have more or both have not, the difference counts squared, with the weight
    ``similar``. ``cost`` weighs the pairs against half the squared length of the direction.

    The squares of similar pairs are those of distances from the mean of their group. The paper weighs every
    pair alike; here ordered and similar pairs are averaged first, so that ``cost`` means the same for corpora
    of any size.
    """
    values = np.asarray(vectors, np.float64)
    pairs = [np.meshgrid(rows[more[rows]], rows[~more[rows]], indexing="ij") for rows in members(speakers)]
    first, second = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    if not len(first):
        return np.zeros(values.shape[1])
    group = np.unique(2 * speakers + more, return_inverse=True)[1]
    sizes = np.bincount(group)
    alike = max(1.0, float((sizes * (sizes - 1) / 2).sum()))

    def loss(direction: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = values @ direction
        short = np.maximum(0.0, 1.0 - scores[first] + scores[second])
        away = scores - (np.bincount(group, scores) / sizes)[group]
        value = float((short**2).mean()) + similar * float((sizes[group] * away**2).sum()) / alike
        slope = 2 * similar / alike * sizes[group] * away
        push = 2 / len(first) * short
        slope += np.bincount(second, push, len(scores)) - np.bincount(first, push, len(scores))
        return 0.5 * float(direction @ direction) + cost * value, direction + cost * (slope @ values)

    start = np.zeros(values.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS})
    return np.asarray(found.x, np.float64)


def order_share(more: NDArray[np.floating], less: NDArray[np.floating]) -> float:
    """Returns the share of pairs in which ``more`` is larger; equal ones count half, NaN without pairs."""
    if not len(more) or not len(less):
        return float("nan")
    ranked = np.sort(less)
    below = np.searchsorted(ranked, more, "left") + np.searchsorted(ranked, more, "right")
    return float(below.mean() / (2 * len(less)))


def order_shares(
    values: NDArray[np.floating],
    groups: NDArray[np.int64],
    classes: NDArray[Any],
    pairs: Sequence[tuple[Any, Any]],
) -> NDArray[np.float64]:
    """Returns how often, within each group, one class is above another: ``(G, P)`` for ``P`` pairs of them.

    Values, groups and classes are ``(N,)``; the share is NaN where a group lacks either class.
    """
    shares = np.full((int(groups.max(initial=-1)) + 1, len(pairs)), np.nan)
    for rows in members(groups):
        own, kind = values[rows], classes[rows]
        shares[groups[rows[0]]] = [order_share(own[kind == more], own[kind == less]) for more, less in pairs]
    return shares
