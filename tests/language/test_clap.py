"""Language-audio losses against slow loops, and what the objective does with a batch."""

import math

import pytest
import torch
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.language.clap import Clap, ClapSettings, clap_losses, clap_targets
from affetto.language.text import TextSettings
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.heads import LanguageHead, LanguageSettings

TEXT = TextSettings(model="made up", shape={}, dim=7)
TDNN = {"name": "tdnn", "width": 8, "blocks": 1, "bins": 20}
EMOTIONS = [0, 1, 0, 2, 1, 0]
GENDERS = [0, 0, 1, 1, 0, 1]


def relation(labels: list[int]) -> Tensor:
    return torch.tensor([[float(one == other) for other in labels] for one in labels])


def naive(kind: str, alpha: float, to_texts: Tensor, to_audio: Tensor) -> float:
    """Equations 4 to 7 as they stand, one item after another."""
    count, total = len(EMOTIONS), 0.0

    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value) for value in values]
        return [power / sum(powers) for power in powers]

    def target(row: int) -> list[tuple[float, list[float]]]:
        same = [float(EMOTIONS[row] == each) for each in EMOTIONS]
        gender = [float(GENDERS[row] == each) for each in GENDERS]
        if kind == "hard":
            return [(1.0, [each / sum(same) for each in same])]
        if kind == "emo":
            return [(1.0, softmax(same))]
        if kind == "ml":
            return [(alpha, softmax(same)), (1 - alpha, softmax(gender))]
        return [(1.0, softmax([alpha * e + (1 - alpha) * g for e, g in zip(same, gender, strict=True)]))]

    for logits in (to_texts, to_audio):
        for row in range(count):
            shares = softmax(logits[row].tolist())
            for weight, wanted in target(row):
                for p, q in zip(wanted, shares, strict=True):
                    if p:
                        total += 0.5 * weight * p * (math.log(p) - math.log(q))
    return total / count


@pytest.mark.parametrize(
    ("kind", "alpha"),
    [("emo", 0.9), ("hard", 0.9), *((kind, alpha) for kind in ("ml", "sl") for alpha in (0.8, 0.9, 1.0))],
)
def test_losses_are_those_of_the_loops(kind: str, alpha: float) -> None:
    torch.manual_seed(0)
    to_texts, to_audio = 3 * torch.randn(2, 6, 6).double()
    settings = ClapSettings.model_validate({"target": kind, "alpha": alpha})
    targets = clap_targets(settings, relation(EMOTIONS).double(), relation(GENDERS).double())
    for _, target in targets:
        torch.testing.assert_close(target.sum(1), torch.ones(6).double())
    losses = clap_losses(to_texts, to_audio, targets)
    assert losses.min() >= 0
    assert float(losses.mean()) == pytest.approx(naive(kind, alpha, to_texts, to_audio), rel=1e-9)


def test_the_best_answer_costs_nothing() -> None:
    for kind in ("emo", "sl"):
        settings = ClapSettings.model_validate({"target": kind})
        targets = clap_targets(settings, relation(EMOTIONS), relation(GENDERS))
        logits = targets[0][1].log()
        assert float(clap_losses(logits, logits, targets).abs().max()) < 1e-6


def test_positives_of_a_soft_target_hold_less_than_half_of_its_mass() -> None:
    labels = [number % 4 for number in range(32)]
    [(_, target)] = clap_targets(ClapSettings(), relation(labels))
    assert float(target[0][[each == 0 for each in labels]].sum()) == pytest.approx(0.475, abs=1e-3)


def classifier(labels: int = 3) -> EmotionClassifier:
    torch.manual_seed(0)
    shape = ClassifierSettings.model_validate(
        {
            "embedder": {"name": "network", "encoder": TDNN, "pooling": "mean"},
            "labels": ["a", "b", "c"][:labels],
            "head": "language",
            "language": {"text": TEXT.model_dump(), "width": 6, "hidden": 5},
            "dropout": 0.0,
        }
    )
    return EmotionClassifier(shape)


def batch(emotions: list[int], genders: list[int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    count = len(emotions)
    columns = {
        "target": torch.eye(3)[emotions],
        "text": torch.eye(3)[emotions],
        "gender": torch.eye(2)[genders or [0] * count],
    }
    values = torch.randn(count, 16_000, generator=generator) * 0.1
    return Batch(values, torch.full((count,), 16_000), torch.arange(count), columns)


@pytest.mark.parametrize("kind", ["emo", "ml", "sl", "hard"])
def test_the_objective_is_its_losses_on_its_own_towers(kind: str) -> None:
    network, settings = classifier(), ClapSettings.model_validate({"target": kind})
    texts = torch.randn(3, 7)
    objective = Clap(network, settings, AugmentConfig(), texts).eval()
    given = batch(EMOTIONS, GENDERS)
    found = objective(given)["clap"]
    head = network.head
    assert isinstance(head, LanguageHead)
    heard = head.project_audio(network.embed(*network.front_end(given.values, given.lengths)))
    meant = head.project_texts(texts[EMOTIONS])
    scale = 1 / 0.07
    wanted = naive(kind, 0.9, scale * heard @ meant.T, scale * meant @ heard.T)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)
    found.backward()
    assert all(each.grad is not None for each in head.parameters())


def test_a_batch_of_one_emotion_is_no_accident() -> None:
    network = classifier()
    for kind in ("emo", "ml", "sl", "hard"):
        settings = ClapSettings.model_validate({"target": kind})
        loss = Clap(network, settings, AugmentConfig(), torch.randn(3, 7))(batch([1] * 4))["clap"]
        assert torch.isfinite(loss)


def test_what_is_heard_does_not_depend_on_the_batch() -> None:
    network = classifier().eval()
    given = batch(EMOTIONS)
    together = network.embed(*network.front_end(given.values, given.lengths))
    head = network.head
    assert isinstance(head, LanguageHead)
    for row in range(3):
        alone = network.embed(*network.front_end(given.values[row : row + 1], given.lengths[row : row + 1]))
        torch.testing.assert_close(
            head.project_audio(alone)[0], head.project_audio(together)[row], atol=1e-5, rtol=1e-5
        )


def test_temperatures_stay_within_bounds() -> None:
    head = LanguageHead(4, 3, LanguageSettings(text=TEXT, width=3, hidden=3))
    torch.testing.assert_close(head.scales, torch.full((2,), 1 / 0.07))
    with torch.no_grad():
        head.log_scales.copy_(torch.tensor([20.0, -20.0]))
    assert head.scales.tolist() == [100.0, 1.0]


def test_mixed_utterances_are_partly_of_both() -> None:
    torch.manual_seed(0)
    network = classifier()
    objective = Clap(network, ClapSettings(), AugmentConfig(mixup=0.4), torch.randn(3, 7)).train()
    assert torch.isfinite(objective(batch(EMOTIONS))["clap"])
