"""Scores of predicted labels, as pure functions over arrays.

Each score exists twice: over two columns of labels (``uar``), and over any stack of confusion matrices
(``uar_of``), which is what lets thousands of bootstrap draws be scored at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affetto.errors import ManifestError, unknown

Score = Callable[[NDArray[Any]], NDArray[np.float64]]


def confusion(truth: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts true against predicted labels.

    Args:
        truth: (B,) true labels.
        predicted: (B,) predicted labels.
        labels: the K labels in the order of rows and columns.

    Returns:
        (K, K), a row a true label, a column a predicted one.

    Raises:
        ManifestError: for a label that is not in ``labels``, or columns of different length.
    """
    rows, columns = codes(truth, labels), codes(predicted, labels)
    if rows.shape != columns.shape:
        raise ManifestError(f"got {len(rows)} true and {len(columns)} predicted labels; each row needs both")
    size = len(labels)
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def codes(values: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Returns the place of each value in ``labels``; raises :class:`ManifestError` for a stranger."""
    place = {label: number for number, label in enumerate(labels)}
    found, inverse = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    for value in found:
        if value not in place:
            raise ManifestError(unknown("label", value, labels))
    return np.array([place[value] for value in found], dtype=np.int64)[inverse]


def recall_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Recall of each class: (..., K, K) -> (..., K), NaN for a class without true rows."""
    counts = np.asarray(matrices, dtype=np.float64)
    return _share(_diagonal(counts), counts.sum(axis=-1))


def precision_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Precision of each class: (..., K, K) -> (..., K), NaN for a class that was never predicted."""
    counts = np.asarray(matrices, dtype=np.float64)
    return _share(_diagonal(counts), counts.sum(axis=-2))


def uar_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Mean recall over the classes that have true rows: (..., K, K) -> (...); NaN where no row is."""
    return _mean_known(recall_of(matrices))


def war_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Weighted average recall, which is accuracy: (..., K, K) -> (...); NaN where no row is."""
    counts = np.asarray(matrices, dtype=np.float64)
    return _share(_diagonal(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def macro_f1_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 over the classes that are true or predicted: (..., K, K) -> (...); NaN where no row is."""
    counts = np.asarray(matrices, dtype=np.float64)
    return _mean_known(_share(2 * _diagonal(counts), counts.sum(axis=-1) + counts.sum(axis=-2)))


SCORES: dict[str, Score] = {"uar": uar_of, "war": war_of, "macro_f1": macro_f1_of}
TITLES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro-F1", "votes_f1": "macro-F1 on votes"}


def uar(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted average recall (UAR, balanced accuracy) over the classes in ``truth``, both (B,).

    Raises:
        ManifestError: when there is no row.
    """
    return _scored(uar_of, truth, predicted)


def war(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Weighted average recall (WAR, accuracy) of (B,) labels.

    Raises:
        ManifestError: when there is no row.
    """
    return _scored(war_of, truth, predicted)


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean F1 over the classes that occur in either (B,) column.

    Raises:
        ManifestError: when there is no row.
    """
    return _scored(macro_f1_of, truth, predicted)


def recall_per_class(
    truth: ArrayLike, predicted: ArrayLike, labels: Sequence[str]
) -> dict[str, float | None]:
    """Recall of each of ``labels``; None for one without true rows."""
    recalls = recall_of(confusion(truth, predicted, labels))
    return {
        label: None if np.isnan(value) else float(value) for label, value in zip(labels, recalls, strict=True)
    }


class Reliability(NamedTuple):
    """Mean confidence, share right and number of predictions by confidence bin; NaN in empty bins."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Bins predictions by confidence: ``bins`` of equal width over 0..1, each closed on its right.

    Args:
        confidence: (B,) probability of the predicted label.
        correct: (B,) whether it was right.
        bins: how many bins.

    Raises:
        ManifestError: for a confidence outside 0..1 or when there is no row.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not sure.size:
        raise ManifestError("there are no predictions to calibrate on")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ManifestError("a confidence lies outside 0..1, or is missing")
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confident = _share(np.bincount(place, sure, minlength=bins), counts)
    return Reliability(confident, _share(np.bincount(place, right, minlength=bins), counts), counts)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and share right over equal bins, weighted by rows (Guo et al. 2017, eq. 3).

    Args and errors are those of :func:`reliability`.
    """
    table = reliability(confidence, correct, bins)
    filled = table.counts > 0
    gaps = np.abs(table.confidence - table.accuracy)[filled]
    return float(gaps @ table.counts[filled] / table.counts.sum())


def _scored(score: Score, truth: ArrayLike, predicted: ArrayLike) -> float:
    true, guessed = np.asarray(truth, dtype=str), np.asarray(predicted, dtype=str)
    if not true.size:
        raise ManifestError("there are no rows to score")
    return float(score(confusion(true, guessed, [str(label) for label in np.union1d(true, guessed)])))


def _diagonal(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.diagonal(counts, axis1=-2, axis2=-1)
    return found


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return _share(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))
