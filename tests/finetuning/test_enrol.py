"""Simulated enrolments: who is enrolled, who is scored, and temperatures that calibrate."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from affetto.finetuning.classical import (
    LOGISTIC_STRENGTHS,
    balanced_loss,
    block_path,
    fit_logistic,
    fit_temperature,
    logistic_path,
)
from affetto.finetuning.enrolment import can_enrol
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


def sklearn_scores(values: np.ndarray, truth: np.ndarray, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(values, truth)
    return np.asarray(model.predict_log_proba(values))


@pytest.mark.parametrize("dims", [4, 300])
@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2, 3]])
def test_regressions_are_those_of_scikit_learn(present: list[int], dims: int) -> None:
    generator = np.random.default_rng(0)
    truth = np.array(present * 30)
    values = generator.normal(0, 1, (len(truth), dims))
    values[:, :4] += np.eye(4)[truth]
    inputs = torch.from_numpy(values).float()
    targets = torch.nn.functional.one_hot(torch.from_numpy(truth), 4).float()
    for strength, weight, bias in logistic_path(inputs, targets, (0.1, 0.003)):
        scores = (inputs @ weight.T + bias).log_softmax(1)
        assert float(scores.exp()[:, [k for k in range(4) if k not in present]].max()) < 1e-6
        expected = sklearn_scores(values, truth, strength)
        np.testing.assert_allclose(scores[:, present].numpy(), expected, atol=0.02)


def test_a_regression_learns_shares_of_votes() -> None:
    generator = np.random.default_rng(0)
    values = torch.from_numpy(generator.normal(0, 1, (400, 3))).float()
    shares = (values @ torch.tensor([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]])).softmax(1)
    *_, (_, weight, bias) = logistic_path(values, shares, (100.0,))
    torch.testing.assert_close((values @ weight.T + bias).softmax(1), shares, atol=0.02, rtol=0)


def test_the_strength_is_the_weakest_that_is_nearly_the_best_on_dev() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(3, size=240)
    values = torch.from_numpy(
        generator.normal(0, 1, (240, 40)) + 2 * np.eye(3)[truth] @ np.eye(3, 40)
    ).float()
    targets = torch.nn.functional.one_hot(torch.from_numpy(truth), 3).float()
    train, dev = np.arange(160), np.arange(160, 240)
    head, best = fit_logistic(values, targets, train, dev, None)
    losses = {
        strength: balanced_loss(values[dev] @ weight.T + bias, targets[dev])
        for strength, weight, bias in logistic_path(values[train], targets[train], LOGISTIC_STRENGTHS)
    }
    near = [strength for strength, loss in losses.items() if loss <= 1.05 * min(losses.values())]
    assert best["strength"] == min(near) < max(near)
    scores = head(values[dev]).detach()
    assert balanced_loss(scores, targets[dev]) == pytest.approx(losses[best["strength"]], rel=1e-4)


def test_temperature_may_be_fitted_to_votes() -> None:
    torch.manual_seed(0)
    scores = 2 * torch.randn(400, 3).double()
    votes = (scores / 3).softmax(1)
    assert fit_temperature(scores, votes) == pytest.approx(3, rel=0.01)
    labels = scores.argmax(1)
    assert fit_temperature(scores, torch.nn.functional.one_hot(labels, 3).float()) == pytest.approx(
        fit_temperature(scores, labels), rel=1e-3
    )


def test_of_two_blocks_dev_says_which_counts() -> None:
    generator = np.random.default_rng(4)
    truth = np.arange(120) % 3
    telling = generator.normal(0, 0.5, (120, 3)) + 2 * np.eye(3)[truth]
    values = torch.from_numpy(np.hstack([generator.normal(size=(120, 40)), telling])).float()
    targets = torch.nn.functional.one_hot(torch.from_numpy(truth)).float()
    train, dev, first = np.arange(12), np.arange(12, 120), torch.arange(43) < 40
    head, found = fit_logistic(values, targets, train, dev, None, [first, ~first])
    assert found["share"] >= 0.75
    assert found["dev_uar"] > fit_logistic(values, targets, train, dev, None)[1]["dev_uar"]
    (path,) = block_path(values[train], targets[train], [0.1], values[dev], targets[dev], [first, ~first])
    assert [each.share for each in path] == [0.0, 0.25, 0.5, 0.75, 1.0]
    ((_, weight, _),) = logistic_path(values[train][:, ~first], targets[train], [0.1])
    alone = path[-1].weight
    assert not alone[:, first].any()
    torch.testing.assert_close(alone[:, ~first] / alone[:, ~first].norm(), weight / weight.norm())
    torch.testing.assert_close(path[2].weight, (path[0].weight + alone) / 2)
    assert not head.linear.weight[:, first].any() or found["share"] < 1
