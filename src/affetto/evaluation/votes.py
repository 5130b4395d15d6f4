"""Votes of several raters as the truth: which emotions they heard, as EMO-SUPERB scores it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.evaluation.bootstrap import Interval, interval, tally_sums


def votes_f1(
    rows: pd.DataFrame, labels: Sequence[str], average: str = "mean", draws: int = 2000, seed: int = 0
) -> Interval | None:
    """Macro-F1 of the emotions that raters heard, with its interval over speakers.

    An utterance is of every class whose share of the votes is above 1/K, and is told to be of every class
    whose probability is (Wu et al. 2024, "EMO-SUPERB", and its code). Their code averages over batches of the
    test part; here the counts of all rows are put together, as F1 is defined.

    Args:
        rows: checked test rows; those without votes for any class are left out.
        labels: the K classes.
        average: how folds are averaged, ``"mean"`` or ``"pooled"``.
        draws: how often the speakers are drawn.
        seed: of the draws.

    Returns:
        None where there are no votes or no probabilities.
    """
    votes, shares = ([f"{start}_{label}" for label in labels] for start in ("votes", "p"))
    if not any(name in rows for name in votes) or not all(name in rows for name in shares):
        return None
    counts = np.stack([_numbers(rows, name) for name in votes], axis=1)
    voted = counts.sum(1) > 0
    if not voted.any():
        return None
    counts = counts[voted] / counts[voted].sum(1, keepdims=True)
    true = counts > 1 / len(labels)
    told = rows.loc[voted, shares].to_numpy(np.float64) > 1 / len(labels)
    sums = np.stack([true & told, ~true & told, true & ~told], axis=2).astype(np.float64)
    counted = tally_sums(rows[voted], labels, sums)
    return interval(counted, _f1_of, average, draws, seed)


def _f1_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over classes of F1 from hits, false alarms and misses, (..., K, 3); 0 for a class without any."""
    hits, alarms, misses = np.moveaxis(sums, -1, 0)
    whole = 2 * hits + alarms + misses
    scores: NDArray[np.float64] = np.divide(2 * hits, whole, out=np.zeros_like(hits), where=whole > 0)
    empty = whole.sum(-1) == 0
    return np.asarray(np.where(empty, np.nan, scores.mean(-1)), np.float64)


def _numbers(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in rows:
        return np.zeros(len(rows))
    return np.nan_to_num(np.asarray(pd.to_numeric(rows[name], errors="coerce"), np.float64))
