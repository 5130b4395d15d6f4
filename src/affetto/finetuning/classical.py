"""Fits a classical head on the vectors of utterances: train learns, dev chooses the strength."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC

from affetto.evaluation.concordance import mean_ccc
from affetto.evaluation.metrics import uar
from affetto.models.heads import KernelHead, LinearHead

LOGISTIC_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
SVM_STRENGTHS = (1.0, 3.0, 10.0)
RIDGE_STRENGTHS = (10.0, 100.0, 1e3, 1e4, 1e5)

Vectors = NDArray[np.float64]
Rows = NDArray[np.int64]


def fit_logistic(
    values: Vectors, truth: Rows, train: Rows, dev: Rows, classes: int, weights: str | None
) -> tuple[LinearHead, dict[str, Any]]:
    """Fits logistic regression to standardised vectors ``(N, D)`` of classes ``(N,)``; dev chooses."""
    best: dict[str, Any] = {"dev_uar": -1.0}
    head = LinearHead(values.shape[1], classes)
    for strength in LOGISTIC_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300, class_weight=weights)
        with unsettled():
            model.fit(values[train], truth[train])
        weight, bias = all_classes(model, classes)
        score = uar(truth[dev], (values[dev] @ weight.T + bias).argmax(1))
        if score > best["dev_uar"]:
            best = {"dev_uar": score, "strength": strength}
            head.assign(weight, bias)
    return head, best


def fit_svm(
    values: Vectors, truth: Rows, train: Rows, dev: Rows, classes: int, weights: str | None
) -> tuple[KernelHead, dict[str, Any]]:
    """Fits a support vector machine a class against the rest, with a radial kernel."""
    best: dict[str, Any] = {"dev_uar": -1.0}
    gamma = 1.0 / (values.shape[1] * values[train].var())
    inside, across = (rbf_kernel(values[rows], values[train], gamma) for rows in (train, dev))
    for strength in SVM_STRENGTHS:
        coefficients, bias = np.zeros((classes, len(train))), np.full(classes, -20.0)
        for label in np.unique(truth[train]):
            machine = SVC(C=strength, kernel="precomputed", class_weight=weights)
            machine.fit(inside, truth[train] == label)
            coefficients[label, machine.support_] = machine.dual_coef_[0]
            bias[label] = machine.intercept_[0]
        score = uar(truth[dev], (across @ coefficients.T + bias).argmax(1))
        if score > best["dev_uar"]:
            best, chosen = {"dev_uar": score, "strength": strength}, (coefficients, bias)
    coefficients, bias = chosen
    used = np.flatnonzero(np.abs(coefficients).sum(0))
    head = KernelHead(values.shape[1], classes, len(used))
    head.support.copy_(torch.from_numpy(values[train[used]]))
    head.coefficients.copy_(torch.from_numpy(coefficients[:, used]))
    head.bias.copy_(torch.from_numpy(bias))
    head.gamma.fill_(gamma)
    return head, best


def fit_ridge(values: Vectors, targets: Vectors, train: Rows, dev: Rows) -> tuple[LinearHead, dict[str, Any]]:
    """Fits ridge regression to dimensions ``(N, K)`` at once; dev chooses by their mean concordance."""
    best: dict[str, Any] = {"dev_ccc": -2.0}
    head = LinearHead(values.shape[1], targets.shape[1])
    for strength in RIDGE_STRENGTHS:
        model = Ridge(alpha=strength).fit(values[train], targets[train])
        weight, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        score = mean_ccc(targets[dev], values[dev] @ weight.T + bias)
        if score > best["dev_ccc"]:
            best = {"dev_ccc": score, "strength": strength}
            head.assign(weight, bias)
    return head, best


@contextmanager
def unsettled() -> Iterator[None]:
    """Lets a regression stop after its last step, converged or not: dev scores it as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def all_classes(
    regression: LogisticRegression, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns weights and bias with a row for every class, even if some were missing or there were two."""
    weight, bias = np.atleast_2d(regression.coef_), np.atleast_1d(regression.intercept_)
    if len(weight) == 1 and len(regression.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full = np.zeros((classes, weight.shape[1]))
    offset = np.full(classes, -20.0)
    full[regression.classes_], offset[regression.classes_] = weight, bias
    return full, offset
