"""A linear probe on vectors, tested on other speakers than it was trained on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def probe(
    vectors: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicts classes by balanced logistic regression on standardised vectors ``(N, D)``, folds by speaker.

    Returns class and fold of each utterance, ``(N,)``: -1 for an utterance of class -1, and for all where
    there are fewer than two speakers or classes, or a fold would be trained on one class.
    """
    predicted, fold_of = np.full(len(labels), -1, np.int64), np.full(len(labels), -1, np.int64)
    known = np.flatnonzero(labels >= 0)
    count = min(folds, len(np.unique(groups[known])))
    if count < 2:
        return predicted, fold_of
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    splits = [split for split in splitter.split(known, labels[known], groups[known]) if len(split[1])]
    if any(len(np.unique(labels[known[train]])) < 2 for train, _ in splits):
        return predicted, fold_of
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    model = make_pipeline(StandardScaler(), regression)
    predicted[known] = cross_val_predict(model, vectors[known], labels[known], cv=splits)
    for fold, (_, test) in enumerate(splits):
        fold_of[known[test]] = fold
    return predicted, fold_of
