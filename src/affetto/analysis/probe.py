"""What a linear layer reads from vectors of speakers that it was not fitted on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def centred(vectors: NDArray[np.floating], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Takes each speaker's mean away from vectors ``(N, D)``."""
    sums = np.zeros((int(groups.max(initial=-1)) + 1, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return vectors - sums[groups] / np.bincount(groups)[groups, None]


def probe(
    vectors: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classifies each utterance by a linear layer fitted on other speakers: logistic, classes balanced.

    Args:
        vectors: ``(N, D)``; each dimension is standardised by the training speakers.
        labels: class of each utterance; utterances of -1 get none.
        groups: speaker of each utterance.
        folds: number of groups of speakers; fewer where there are fewer speakers.
        seed: of the division.

    Returns:
        Class and fold of each utterance, ``(N,)``; all -1 where there are fewer than two speakers or classes,
        or some fold would be fitted on one class.
    """
    predicted, fold_of = np.full(len(labels), -1, np.int64), np.full(len(labels), -1, np.int64)
    known = np.flatnonzero(labels >= 0)
    count = min(folds, len(np.unique(groups[known])))
    if count < 2:
        return predicted, fold_of
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    split = [
        (known[train], known[test])
        for train, test in splitter.split(known, labels[known], groups[known])
        if len(test)
    ]
    if any(len(np.unique(labels[train])) < 2 for train, _ in split):
        return predicted, fold_of
    for fold, (train, test) in enumerate(split):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        )
        model.fit(vectors[train], labels[train])
        predicted[test], fold_of[test] = model.predict(vectors[test]), fold
    return predicted, fold_of
