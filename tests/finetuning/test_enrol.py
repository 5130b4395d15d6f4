"""Simulated enrolments: who is enrolled, who is scored, and temperatures that calibrate."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from affetto.finetuning.classical import all_classes, fit_logistic
from affetto.finetuning.enrolment import can_enrol, fit_temperature
from affetto.models.enrolment import all_others, draws

SPEAKERS = np.array(["a"] * 12 + ["b"] * 8 + ["c"] * 3)
TRUTH = np.arange(23) % 4
ROWS = np.arange(23)


@pytest.mark.parametrize("emotion", [None, 2])
def test_nobody_is_enrolled_and_scored_at_once(emotion: int | None) -> None:
    found = list(draws(SPEAKERS, TRUTH, ROWS, 5, np.random.default_rng(0), emotion))
    for draw in found:
        assert not set(draw.enrolled) & set(draw.scored)
        assert len(set(SPEAKERS[[*draw.enrolled, *draw.scored]])) == 1
        assert len(draw.enrolled) <= 5
        if emotion is not None:
            assert set(TRUTH[draw.enrolled]) == {emotion}
    counts = {SPEAKERS[draw.enrolled[0]]: (len(draw.enrolled), len(draw.scored)) for draw in found}
    assert counts == (
        {"a": (5, 7), "b": (5, 3)} if emotion is None else {"a": (3, 9), "b": (2, 6), "c": (1, 2)}
    )


def test_all_others_of_a_speaker_are_enrolled_for_each_utterance() -> None:
    found = list(all_others(ROWS[-5:], SPEAKERS))
    assert sorted(int(draw.scored[0]) for draw in found) == [18, 19, 20, 21, 22]
    assert all(len(draw.enrolled) == (1 if draw.scored[0] < 20 else 2) for draw in found)


def test_speakers_of_few_utterances_cannot_be_enrolled() -> None:
    many, few = np.repeat(["a", "b"], 6), np.repeat(["c", "d"], 5)
    assert can_enrol(many, many)
    assert not can_enrol(many, few)
    assert not can_enrol(few, many)
    assert not can_enrol(np.repeat("a", 30), many)


def test_temperature_undoes_a_known_scaling() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in chances])
    for factor in (0.25, 1.0, 5.0):
        found = fit_temperature(torch.from_numpy(factor * logits), torch.from_numpy(labels))
        assert found == pytest.approx(factor, rel=0.06)


def test_temperature_is_the_best_of_a_fine_grid() -> None:
    torch.manual_seed(0)
    scores, labels = 3 * torch.randn(50, 3).double(), np.arange(50) % 3

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(scores / temperature, torch.from_numpy(labels)))

    found = fit_temperature(scores, torch.from_numpy(labels))
    assert loss(found) <= min(loss(float(t)) for t in np.geomspace(0.05, 50, 400)) + 1e-6


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2], [1, 2]])
def test_a_regression_gives_a_row_for_every_class(present: list[int]) -> None:
    generator = np.random.default_rng(0)
    truth = np.array(present * 20)
    values = generator.normal(0, 1, (len(truth), 3)) + 2 * np.eye(3)[truth]
    model = LogisticRegression().fit(values, truth)
    weight, bias = all_classes(model, 4)
    scores = values @ weight.T + bias
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert chances.shape == (len(truth), 4)
    np.testing.assert_allclose(chances[:, present], model.predict_proba(values), atol=1e-6)


def test_temperature_may_be_fitted_to_votes() -> None:
    torch.manual_seed(0)
    scores = 2 * torch.randn(400, 3).double()
    votes = (scores / 3).softmax(1)
    assert fit_temperature(scores, votes) == pytest.approx(3, rel=0.01)
    labels = scores.argmax(1)
    assert fit_temperature(scores, torch.nn.functional.one_hot(labels, 3).float()) == pytest.approx(
        fit_temperature(scores, labels), rel=1e-3
    )


def test_a_regression_that_does_not_settle_is_no_warning() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(120, 40)) * np.geomspace(1, 1e4, 40)
    truth = generator.integers(3, size=120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            LogisticRegression(C=0.1, max_iter=300).fit(values, truth)
        fit_logistic(values, truth, np.arange(80), np.arange(80, 120), 3, None)
