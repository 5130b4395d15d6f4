"""Votes of several raters as the truth, as EMO-SUPERB scores them (Wu et al. 2024, and their code).

An utterance is of every class whose share of the votes is above 1/K, and is predicted to be of every class
whose probability is. Their code averages over batches of the test part; here the counts of all rows are put
together, as F1 is defined.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


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
