"""Metrics: each is a function of sums over rows, and has its line in the table METRICS at the end.

Sums over rows add up over speakers. Therefore the scores of thousands of bootstrap draws come from one matrix
product. What adds up for most metrics is the confusion matrix.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from affetto.errors import ManifestError, unknown

WITHHELD_PERCENTS = (10, 20, 30, 40, 50)
"""Shares of the answers on dev that can be withheld by name, as ``"20%"``."""

Score = Callable[[NDArray[Any]], NDArray[np.float64]]
Sums = Callable[[pd.DataFrame, Sequence[str]], NDArray[np.float64] | None]


def ccc(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Concordance of each column of two arrays ``(N, K)``: ``(K,)``, 0 where nothing varies.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45.
    """
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

    As EMO-SUPERB scores votes (Wu et al. 2024, and their code): an utterance is of every class whose share of
    the votes is above 1/K, and is predicted to be of every class whose probability is. Their code averages
    over batches of the test part; here the counts of all rows are put together, as F1 is defined. None where
    there are no votes or no probabilities.
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


def confusion_sums(rows: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.float64]:
    """A confusion matrix of each of N rows, (N, K, K): a row a true class, a column a predicted one."""
    size = len(labels)
    sums = np.zeros((len(rows), size, size))
    sums[np.arange(len(rows)), _codes(rows["truth"], labels), _codes(rows["label"], labels)] = 1
    return sums


def recall_of(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Recall of each class: (..., K, K) -> (..., K), NaN for a class without true rows."""
    return share(_hits(matrices), matrices.sum(axis=-1))


def precision_of(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Precision of each class: (..., K, K) -> (..., K), NaN for a class that was never predicted."""
    return share(_hits(matrices), matrices.sum(axis=-2))


def uar_of(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Mean recall over the classes that have true rows: (..., K, K) -> (...); NaN where there is no row."""
    return mean_known(recall_of(matrices))


def war_of(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Weighted average recall, which is accuracy: (..., K, K) -> (...); NaN where there is no row."""
    return share(_hits(matrices).sum(axis=-1), matrices.sum(axis=(-2, -1)))


def macro_f1_of(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Mean F1 over the classes that are true or predicted: (..., K, K) -> (...); NaN without rows."""
    return mean_known(share(2 * _hits(matrices), matrices.sum(axis=-1) + matrices.sum(axis=-2)))


def uar(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted average recall (balanced accuracy) over the classes in ``truth``, both (N,)."""
    true, guessed = np.asarray(truth), np.asarray(predicted)
    if not true.size:
        raise ManifestError("there are no rows to score")
    return float(np.mean([np.mean(guessed[true == label] == label) for label in np.unique(true)]))


class Reliability(NamedTuple):
    """Mean confidence, share right and number of predictions by confidence bin; NaN in empty bins."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of confidence and share right (Guo et al. 2017, eq. 3)."""
        filled = self.counts > 0
        gaps = np.abs(self.confidence - self.accuracy)[filled]
        return float(gaps @ self.counts[filled] / self.counts.sum())


def confidence_bins(confidence: ArrayLike, correct: ArrayLike) -> Reliability:
    """Puts predictions into 15 equal bins of their label's probability, each closed on its right.

    Raises:
        ManifestError: for a confidence outside 0..1 or when there is no row.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not sure.size:
        raise ManifestError("there are no predictions to calibrate on")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ManifestError("a confidence lies outside 0..1, or is missing")
    bins = 15
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confident = share(np.bincount(place, sure, minlength=bins), counts)
    return Reliability(confident, share(np.bincount(place, right, minlength=bins), counts), counts)


def withholding(confidence: ArrayLike, correct: ArrayLike) -> dict[str, dict[str, float]]:
    """Returns by share, ``"20%"``, the confidence that so many are below, and the others' accuracy.

    ``confidence (N,)`` and ``correct (N,)`` are of all answers.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    found = {}
    for percents in WITHHELD_PERCENTS:
        least = float(np.quantile(sure, percents / 100))
        found[f"{percents}%"] = {"confidence": least, "accuracy": float(right[sure >= least].mean())}
    return found


def _codes(values: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Returns the place of each value in ``labels``."""
    place = {label: number for number, label in enumerate(labels)}
    found, inverse = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    for value in found:
        if value not in place:
            raise ManifestError(unknown("label", value, labels))
    return np.array([place[value] for value in found], dtype=np.int64)[inverse]


def _hits(matrices: NDArray[Any]) -> NDArray[Any]:
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Part of a whole, NaN where the whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of the values that are not NaN."""
    known = np.isfinite(values)
    return share(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


class Metric(NamedTuple):
    """A score of test rows."""

    title: str  # its name in tables
    about: str  # what it is, for the docs
    score: Score  # sums (..., *S) -> (...); of dimensions -> (..., K)
    # Table of N rows, K labels (or dimensions) -> what adds up, (N, *S); NaN for a row that does not count,
    # None where the table lacks what it takes.
    sums: Sums = confusion_sums
    spellings: tuple[str, ...] = ()  # what papers call it, in small letters
    dimensions: bool = False  # it scores dimensions, not classes


METRICS: dict[str, Metric] = {
    "uar": Metric(
        "UAR",
        "unweighted average recall: the recall of each class, averaged; chance is 1/K",
        uar_of,
        spellings=("ua", "unweighted average recall", "unweighted accuracy", "balanced accuracy"),
    ),
    "war": Metric(
        "WAR",
        "weighted average recall, which is accuracy",
        war_of,
        spellings=("wa", "acc", "accuracy", "weighted accuracy", "weighted average recall", "micro f1"),
    ),
    "macro_f1": Metric("macro-F1", "F1 of each class, averaged", macro_f1_of, spellings=("f1 macro",)),
    "votes_f1": Metric(
        "macro-F1 on votes",
        "macro-F1 where each class with more than 1/K of the votes of raters is true, and each with a "
        "probability above 1/K is predicted; needs `votes_<label>` and `p_<label>`",
        votes_f1_of,
        vote_sums,
    ),
    "ccc": Metric(
        "CCC",
        "Lin's concordance correlation with the raters: 1 where predicted and true values are equal",
        ccc_of,
        rating_sums,
        dimensions=True,
    ),
    "error": Metric(
        "error", "root mean square error, on the raters' scale", error_of, rating_sums, dimensions=True
    ),
}


def metrics_of(dimensions: Sequence[str] = ()) -> dict[str, Metric]:
    """Returns the metrics of classes; or of each dimension D, ``METRIC_D``, and of their mean."""
    chosen = {name: metric for name, metric in METRICS.items() if metric.dimensions == bool(dimensions)}
    if not dimensions:
        return chosen
    parts = [*enumerate(dimensions), *([(None, "mean")] if len(dimensions) > 1 else [])]
    return {
        f"{name}_{part}": metric._replace(title=f"{metric.title}, {part}", score=_of(metric.score, number))
        for name, metric in chosen.items()
        for number, part in parts
    }


def _of(score: Score, number: int | None) -> Score:
    """Returns the score of one dimension, or the mean over all."""
    return (lambda sums: score(sums).mean(-1)) if number is None else (lambda sums: score(sums)[..., number])


def same_metric(name: object) -> str | None:
    """Returns which of the metrics a published one is; None for another."""
    plain = " ".join(str(name).lower().replace("_", " ").replace("-", " ").split())
    for own, metric in METRICS.items():
        if plain in (own.replace("_", " "), metric.title.lower().replace("-", " "), *metric.spellings):
            return own
    return None
