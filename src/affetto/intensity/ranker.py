"""Relative attributes: a direction along which utterances with more of something come later.

A linear ranker is fitted on pairs (Parikh and Grauman 2011, "Relative attributes", section 3.1): ordered
ones, in which the first has more of it, and similar ones, whose scores should be close.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from affetto.vectors.spaces import members

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
