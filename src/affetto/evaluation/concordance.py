"""Sums over rows of what is no confusion matrix: concordance with raters, and votes of several raters.

Lin (1989), "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45. Votes as
EMO-SUPERB scores them (Wu et al. 2024, and their code): an utterance is of every class whose share of the
votes is above 1/K, and is predicted to be of every class whose probability is. Their code averages over
batches of the test part; here the counts of all rows are put together, as F1 is defined.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def ccc(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Concordance of each column of two arrays ``(N, K)``: ``(K,)``, 0 where nothing varies."""
    return ccc_of(_moments(np.asarray(truth, np.float64), np.asarray(predicted, np.float64)).sum(0))


def mean_ccc(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The mean of :func:`ccc` over the columns."""
    return float(ccc(truth, predicted).mean())


def ratings(rows: pd.DataFrame, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the raters' and the predicted values of K dimensions, ``(N, K)`` each."""
    truth = rows[[f"truth_{name}" for name in names]].to_numpy(np.float64)
    return truth, rows[list(names)].to_numpy(np.float64)


def rating_sums(rows: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Returns what adds up over rows with K dimensions, ``(N, K, 6)``."""
    return _moments(*ratings(rows, names))


def ccc_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Concordance from such sums, ``(..., K, 6) -> (..., K)``; NaN where there is no row."""
    count = sums[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / count[..., None], -1, 0)
        whole = (xx - x * x) + (yy - y * y) + (x - y) ** 2
        varies = whole > 1e-12 * (xx + yy)  # differences of equal numbers leave rounding, not variance
        found: NDArray[np.float64] = np.where(varies, 2 * (xy - x * y) / whole, 0.0)
    return np.where(count > 0, found, np.nan)


def error_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square error from such sums, ``(..., K, 6) -> (..., K)``; NaN where there is no row."""
    count, xx, yy, xy = (sums[..., place] for place in (0, 3, 4, 5))
    squares = np.maximum(xx + yy - 2 * xy, 0)
    mean: NDArray[np.float64] = np.divide(squares, count, out=np.full_like(squares, np.nan), where=count > 0)
    return np.sqrt(mean)


def _moments(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ones, values, squares and products, about the mean of the truth: large means would cost digits."""
    centre = truth.mean(0)
    x, y = truth - centre, predicted - centre
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def vote_sums(rows: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.float64] | None:
    """Hits, false alarms and misses of each row and class, (N, K, 3); NaN for a row without votes.

    None where there are no votes or no probabilities.
    """
    votes, shares = ([f"{start}_{label}" for label in labels] for start in ("votes", "p"))
    if not any(name in rows for name in votes) or not all(name in rows for name in shares):
        return None
    table = rows.reindex(columns=votes).apply(pd.to_numeric, errors="coerce")
    counts = np.nan_to_num(table.to_numpy(np.float64))
    total = counts.sum(1, keepdims=True)
    if not total.any():
        return None
    true = counts > total / len(labels)
    predicted = rows[shares].to_numpy(np.float64) > 1 / len(labels)
    sums = np.stack([true & predicted, ~true & predicted, true & ~predicted], axis=2).astype(np.float64)
    return np.where(total[:, :, None] > 0, sums, np.nan)


def votes_f1_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean F1 over classes of such sums, (..., K, 3) -> (...); a class without any counts as 0."""
    hits, alarms, misses = np.moveaxis(sums, -1, 0)
    whole = 2 * hits + alarms + misses
    scores: NDArray[np.float64] = np.divide(2 * hits, whole, out=np.zeros_like(hits), where=whole > 0)
    return np.asarray(np.where(whole.sum(-1) == 0, np.nan, scores.mean(-1)), np.float64)
