"""Metrics against scikit-learn and against slow loops."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from affetto.errors import ManifestError
from affetto.evaluation import metrics

NAMES = ("anger", "fear", "happiness", "neutral", "sadness")
pairs = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=60)


def matrix(truth: tuple[str, ...], predicted: tuple[str, ...]) -> np.ndarray:
    return metrics.confusion_sums(pd.DataFrame({"truth": truth, "label": predicted}), NAMES).sum(0)


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_scores_equal_scikit_learn(rows: list[tuple[str, str]]) -> None:
    truth, predicted = zip(*rows, strict=True)
    counts = matrix(truth, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle.balanced_accuracy_score(truth, predicted)
    assert metrics.uar(truth, predicted) == pytest.approx(expected)
    assert float(metrics.uar_of(counts)) == pytest.approx(expected)
    assert float(metrics.war_of(counts)) == pytest.approx(oracle.accuracy_score(truth, predicted))
    expected = oracle.f1_score(truth, predicted, average="macro", zero_division=0)
    assert float(metrics.macro_f1_of(counts)) == pytest.approx(expected)
    assert (counts == oracle.confusion_matrix(truth, predicted, labels=NAMES)).all()


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_recall_and_precision_equal_scikit_learn(rows: list[tuple[str, str]]) -> None:
    truth, predicted = zip(*rows, strict=True)
    for ours, score in (
        (metrics.recall_of, oracle.recall_score),
        (metrics.precision_of, oracle.precision_score),
    ):
        expected = score(truth, predicted, labels=NAMES, average=None, zero_division=np.nan)
        np.testing.assert_allclose(ours(matrix(truth, predicted)), expected)


def test_a_stack_of_matrices_scores_like_each_by_itself() -> None:
    stack = np.random.default_rng(0).integers(0, 4, size=(7, 3, 4, 4))
    for score in (metrics.uar_of, metrics.war_of, metrics.macro_f1_of):
        singles = [[float(score(matrix)) for matrix in row] for row in stack]
        np.testing.assert_allclose(score(stack), singles)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_calibration_error_equals_a_loop_over_bins(rows: list[tuple[float, bool]]) -> None:
    gap, bins = 0.0, 15
    for number in range(bins):
        inside = [
            (sure, right)
            for sure, right in rows
            if number < sure * bins <= number + 1 or (number == 0 and sure * bins <= 0)
        ]
        if inside:
            confidence = sum(sure for sure, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            gap += len(inside) / len(rows) * abs(confidence - accuracy)
    sure, right = zip(*rows, strict=True)
    assert metrics.confidence_bins(sure, right).error == pytest.approx(gap, abs=1e-9)


def test_known_values() -> None:
    truth, predicted = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    assert metrics.uar(truth, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.confidence_bins([0.9, 0.9], [True, False]).error == pytest.approx(0.4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ManifestError, match="did you mean 'anger'"):
        matrix(("angr",), ("fear",))
    with pytest.raises(ManifestError, match="no rows to score"):
        metrics.uar([], [])
    with pytest.raises(ManifestError, match=r"outside 0\.\.1"):
        metrics.confidence_bins([1.2], [True])
    with pytest.raises(ManifestError, match="no predictions"):
        metrics.confidence_bins([], [])
