"""The loss against slow loops: smoothing, votes, class weights, cached frames, shares of a batch."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import FunctionalsSettings, NetworkSettings
from affetto.models.ge2e import Ge2eSettings, Ge2eSpectrumSettings
from affetto.models.logmel import CnnSettings
from affetto.objectives import objective
from affetto.objectives.objective import mean_over_processes
from affetto.objectives.supervised import Classify, ClassifySettings
from affetto.objectives.views import SpeakerTask, SpeakerTaskSettings

LABELS = ("anger", "fear", "neutral")
PLAIN = AugmentConfig()


def classifier(embedder: object = None, enrolment: bool = False) -> EmotionClassifier:
    torch.manual_seed(0)
    network = embedder or NetworkSettings(encoder=CnnSettings(width=8, blocks=1, bins=16, drop_path=0))
    return EmotionClassifier(
        ClassifierSettings(embedder=network, labels=LABELS, dropout=0, enrolment=enrolment)
    )


def batch(targets: list[list[float]]) -> Batch:
    torch.manual_seed(1)
    count = len(targets)
    lengths = torch.arange(count) * 800 + 4000
    waveforms = 0.1 * torch.randn(count, int(lengths[-1]))
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, length:] = 0
    return Batch(waveforms, lengths, torch.arange(count), {"target": torch.tensor(targets)})


HARD = [[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
VOTES = [[0.7, 0.2, 0.1], [0, 0, 1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]


def slow_loss(scores: Tensor, targets: list[list[float]], smoothing: float, weights: list[float]) -> float:
    total = weight = 0.0
    for row, target in enumerate(targets):
        values = scores[row].tolist()
        normaliser = math.log(sum(math.exp(value) for value in values))
        for label, share in enumerate(target):
            smooth = (1 - smoothing) * share + smoothing / len(target)
            total -= smooth * weights[label] * (values[label] - normaliser)
            weight += smooth * weights[label]
    return total / weight


@pytest.mark.parametrize("targets", [HARD, VOTES])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_the_loss_is_that_of_slow_loops(
    targets: list[list[float]], smoothing: float, weights: list[float] | None
) -> None:
    network = classifier()
    loss = Classify(
        network,
        ClassifySettings(label_smoothing=smoothing),
        PLAIN,
        None if weights is None else torch.tensor(weights),
    )
    given = batch(targets)
    with torch.no_grad():
        scores = network.scores(network.embed(*network.front_end(given.values, given.lengths)))
        losses = loss(given)
    assert set(losses) == {"classification"}
    expected = slow_loss(scores, targets, smoothing, weights or [1.0] * 3)
    assert float(losses["classification"]) == pytest.approx(expected, rel=1e-5)


def test_without_extras_it_is_the_cross_entropy_of_torch() -> None:
    network = classifier()
    given = batch(HARD)
    loss = Classify(network, ClassifySettings(label_smoothing=0.1), PLAIN)(given)["classification"]
    scores = network.scores(network.embed(*network.front_end(given.values, given.lengths)))
    labels = given.columns["target"].argmax(1)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, labels, label_smoothing=0.1))


@pytest.mark.parametrize("layers", ["weighted", "all", "last"])
@pytest.mark.parametrize("enrolment", [False, True])
def test_cached_frames_give_the_loss_of_their_waveforms(layers: str, enrolment: bool) -> None:
    shape = NetworkSettings(encoder=Ge2eSettings(hidden=8), layers=layers, pooling="statistics")
    network = classifier(shape, enrolment)
    given = batch(VOTES)
    encoder = network.embedder.get_submodule("encoder")
    frames = encoder(*network.front_end(given.values, given.lengths))
    cached = Batch(torch.cat(frames.layers, 2), frames.lengths, given.index, given.columns)
    loss = Classify(network, ClassifySettings(), PLAIN, reads="frames")(cached)
    expected = Classify(network, ClassifySettings(), PLAIN)(given)
    torch.testing.assert_close(loss["classification"], expected["classification"])


def test_cached_features_give_the_loss_of_their_waveforms() -> None:
    network, given = classifier(), batch(VOTES)
    cached = Batch(*network.front_end(given.values, given.lengths), given.index, given.columns)
    loss = Classify(network, ClassifySettings(), PLAIN, reads="features").train()
    expected = Classify(network, ClassifySettings(), PLAIN).train()(given)
    torch.testing.assert_close(loss(cached)["classification"], expected["classification"])
    loss.augment = AugmentConfig(gain_db=12, speed=(0.8, 1.2))
    changed = float(loss(cached)["classification"].detach())
    assert changed != pytest.approx(float(expected["classification"].detach()))


@pytest.mark.parametrize("backwards", [False, True])
def test_a_speaker_task_comes_beside_emotions_or_against_them(backwards: bool) -> None:
    network, given = classifier(), batch(HARD)
    given.columns["speaker"] = torch.tensor([0, 0, 1, 1])
    settings = ClassifySettings(speaker="reversed" if backwards else "auxiliary", speaker_weight=0.3)
    task = SpeakerTask(SpeakerTaskSettings(), network.embedder.dim, 2, backwards)
    loss = Classify(network, settings, PLAIN, speaker_task=task)
    assert loss.weights["speaker"] == 0.3
    losses = loss(given)
    vectors = network.embed(*network.front_end(given.values, given.lengths))
    expected = torch.nn.functional.cross_entropy(task.head(vectors), given.columns["speaker"])
    torch.testing.assert_close(losses["speaker"], expected)
    found = torch.autograd.grad(losses["speaker"], list(network.embedder.parameters()), allow_unused=True)
    wanted = torch.autograd.grad(expected, list(network.embedder.parameters()), allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            torch.testing.assert_close(one, -other if backwards else other)


def test_augmentation_happens_in_training_only_and_follows_the_seed() -> None:
    loud = AugmentConfig(gain_db=20, noise_probability=1, speed=(0.8, 1.2), time_masks=1, mixup=0.5)
    loss = Classify(classifier(), ClassifySettings(), loud)
    plain = Classify(loss.classifier, ClassifySettings(), PLAIN)
    given = batch(HARD)
    expected = plain.eval()(given)["classification"]
    torch.testing.assert_close(loss.eval()(given)["classification"], expected)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(float(loss.train()(given)["classification"].detach()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != pytest.approx(float(expected.detach()), rel=1e-4)


def test_masks_are_for_spectra_not_for_waveforms() -> None:
    shape = NetworkSettings(encoder=Ge2eSpectrumSettings(hidden=8, bins=8), layers="all", pooling="mean")
    given = batch(HARD)
    masks = AugmentConfig(frequency_masks=1, frequency_mask_bins=80)
    for augment in (masks, PLAIN):
        loss = Classify(classifier(shape), ClassifySettings(), augment).train()
        drawn = float(loss(given)["classification"].detach())
        if augment is masks:
            masked = drawn
    assert masked == pytest.approx(drawn, rel=1e-6)


def test_fixed_vectors_are_not_trained_by_gradient() -> None:
    with pytest.raises(TypeError, match="only networks"):
        Classify(classifier(FunctionalsSettings(bins=8)), ClassifySettings(), PLAIN)


def test_uneven_shares_average_to_the_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, weights = [torch.tensor(6.0), torch.tensor(1.0)], [torch.tensor(3.0), torch.tensor(2.0)]
    assert float(mean_over_processes(sums[0], weights[0])) == 2.0
    group = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda: 2,
        all_reduce=lambda tensor: tensor.fill_(5.0),
    )
    monkeypatch.setattr(objective.torch, "distributed", group)
    parts = [mean_over_processes(total, weight) for total, weight in zip(sums, weights, strict=True)]
    assert float(sum(parts)) / 2 == pytest.approx(7.0 / 5.0)
    assert [float(weight) for weight in weights] == [3.0, 2.0]
