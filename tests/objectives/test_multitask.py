"""Views, and the tasks beside contrast: speakers, speakers reversed, reconstruction."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.models.encoder import Frames, normalise_logmel
from affetto.models.ge2e import Ge2e, Ge2eSettings
from affetto.models.logmel import Tdnn, TdnnSettings
from affetto.objectives.objective import Views
from affetto.objectives.views import (
    Contrastive,
    ContrastiveSettings,
    Multitask,
    ReconstructionTask,
    SpeakerTask,
    SpeakerTaskSettings,
    VectorTask,
    ViewSettings,
    reverse_gradient,
)

PLAIN = ViewSettings(crop_seconds=0, augment=AugmentConfig())


def encoder() -> Tdnn:
    torch.manual_seed(0)
    return Tdnn(TdnnSettings(width=12, blocks=1, bins=16, stack=4, drop_path=0))


def batch(samples: bool = False) -> Batch:
    torch.manual_seed(1)
    lengths = torch.tensor([16_000, 24_000, 20_000, 32_000])
    waveforms = 0.1 * torch.randn(4, 32_000)
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, length:] = 0
    columns = {"speaker": torch.tensor([0, 0, 1, 1]), "group": torch.tensor([0, 1, 0, 0])}
    if samples:
        return Batch(waveforms, lengths, torch.arange(4), columns)
    features, frames = encoder().front_end(waveforms, lengths)
    return Batch(features, frames, torch.arange(4), columns)


def objective(views: ViewSettings = PLAIN, **tasks: nn.Module) -> Multitask:
    shared = encoder()
    return Multitask(shared, tasks or {"contrastive": Contrastive(ContrastiveSettings(), 12)}, {}, views)


def test_two_views_of_each_utterance_come_one_after_the_other() -> None:
    made = objective().views(batch())
    assert made.index.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert made.columns["speaker"].tolist() == [0, 0, 1, 1] * 2
    torch.testing.assert_close(made.vectors[:4], made.vectors[4:])  # nothing is drawn here


def test_views_differ_in_training_and_follow_the_seed() -> None:
    training = objective(ViewSettings(crop_seconds=0.5)).train()
    torch.manual_seed(5)
    one = training.views(batch())
    torch.manual_seed(5)
    two = training.views(batch())
    torch.testing.assert_close(one.vectors, two.vectors)
    assert not torch.allclose(one.vectors[:4], one.vectors[4:], atol=1e-3)
    assert one.lengths.max() <= 50


def test_samples_and_features_give_the_same_views_where_nothing_is_drawn() -> None:
    made = objective().eval()
    torch.testing.assert_close(made.views(batch()).vectors, made.views(batch(samples=True)).vectors)


def test_samples_are_cropped_before_the_front_end() -> None:
    made = objective(ViewSettings(crop_seconds=0.8, augment=AugmentConfig())).views(batch(samples=True))
    assert made.lengths.tolist() == [81] * 8


def test_deviations_over_time_follow_the_means_where_they_are_asked_for() -> None:
    both = objective(PLAIN.model_copy(update={"pooling": "statistics"})).eval().views(batch())
    means = objective().eval().views(batch())
    torch.testing.assert_close(both.vectors[:, :12], means.vectors)
    expected = [
        each[:length].std(0, unbiased=False)
        for each, length in zip(both.frames.values, both.frames.lengths.tolist(), strict=True)
    ]
    torch.testing.assert_close(both.vectors[:, 12:], torch.stack(expected), atol=1e-3, rtol=1e-3)


def test_every_task_has_its_name_and_its_weight() -> None:
    tasks = {
        "speaker": SpeakerTask(SpeakerTaskSettings(), 12, 2),
        "reconstruction": ReconstructionTask(encoder()),
    }
    made = Multitask(encoder(), tasks, {"speaker": 0.3}, PLAIN)
    assert made.weights == {"speaker": 0.3, "reconstruction": 1.0}
    losses = made(batch())
    assert set(losses) == {"speaker", "reconstruction"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in made.tasks.parameters())


def test_a_reversed_gradient_changes_its_sign_and_nothing_else() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    reverse_gradient(values).pow(2).sum().backward()
    torch.testing.assert_close(values.grad, -2 * values.detach())


def speaker_loss(task: SpeakerTask, vectors: Tensor) -> Tensor:
    lengths = torch.ones(4, dtype=torch.long)
    frames = Frames((vectors[:, None],), lengths)
    columns = {"speaker": torch.tensor([0, 1, 1, 2])}
    return task(Views(vectors, frames, vectors[:, None], lengths, torch.arange(4), columns))


def test_the_adversary_asks_the_network_for_the_opposite() -> None:
    gradients = []
    for reverses in (False, True):
        torch.manual_seed(2)
        task = SpeakerTask(SpeakerTaskSettings(), 5, 3, reverses)
        vectors = torch.linspace(-1, 1, 20).reshape(4, 5).requires_grad_()
        speaker_loss(task, vectors).backward()
        gradients.append((vectors.grad, task.head.weight.grad))
    torch.testing.assert_close(gradients[0][0], -gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])  # its own head learns the same


def test_a_margin_is_taken_off_the_right_speaker() -> None:
    torch.manual_seed(2)
    task = SpeakerTask(SpeakerTaskSettings(margin=0.2, scale=10), 5, 3)
    vectors, speakers, total = torch.randn(4, 5), [0, 1, 1, 2], 0.0
    for row, speaker in enumerate(speakers):
        cosines = F.cosine_similarity(vectors[row][None], task.head.weight).tolist()
        scores = [10 * (value - (0.2 if k == speaker else 0)) for k, value in enumerate(cosines)]
        total -= scores[speaker] - math.log(sum(math.exp(score) for score in scores))
    assert float(speaker_loss(task, vectors)) == pytest.approx(total / 4, rel=1e-5)


def test_reconstruction_is_the_mean_distance_over_valid_frames() -> None:
    torch.manual_seed(3)
    reader = encoder()
    reader.front_end = SimpleNamespace(kind="logmel", dim=2, frame_seconds=0.01)
    reader.dim, reader.hop_seconds = 6, 0.03
    task = ReconstructionTask(reader)
    frames, features = torch.randn(2, 4, 6), torch.randn(2, 11, 2) - 7
    lengths = torch.tensor([11, 5])
    made = Views(
        frames.mean(1), Frames((frames,), torch.tensor([4, 2])), features, lengths, torch.arange(2), {}
    )
    total = count = 0.0
    for row in range(2):
        for time in range(int(lengths[row])):
            rebuilt = task.head(frames[row, time // 3])[2 * (time % 3) : 2 * (time % 3) + 2]
            target = normalise_logmel(features[row, time])
            total += float((rebuilt - target).abs().mean())
            count += 1
    assert float(task(made)) == pytest.approx(total / count, rel=1e-5)


def test_what_is_hidden_is_rebuilt_as_it_was() -> None:
    masks = AugmentConfig(time_masks=3, time_mask_frames=30, time_mask_share=0.5)
    made = objective(ViewSettings(crop_seconds=0, augment=masks)).train().views(batch())
    torch.testing.assert_close(made.features[:4], batch().values)


def test_an_encoder_of_mel_power_is_pretrained_on_samples() -> None:
    network = Ge2e(Ge2eSettings(hidden=8))
    tasks = {
        "contrastive": Contrastive(ContrastiveSettings(), 8),
        "reconstruction": ReconstructionTask(network),
    }
    made = Multitask(network, tasks, {}, ViewSettings(crop_seconds=0.7)).train()
    losses = made(batch(samples=True))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_vector_is_foretold_by_direction() -> None:
    task = VectorTask(3, 2)
    with torch.no_grad():
        task.head.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        task.head.bias.zero_()
    told = torch.tensor([[2.0, 0, 5], [0, 3, 0], [1, 1, 0], [0, 0.5, 1]])
    frames = Frames((told[:, None],), torch.ones(4, dtype=torch.long))
    columns = {"vector": torch.tensor([[1.0, 0], [0, -4], [1, 0], [0, 1]])}
    views = Views(told, frames, told[:, None], torch.ones(4), torch.arange(4), columns)
    expected = (0 + 2 + (1 - math.sqrt(0.5)) + 0) / 4
    assert float(task(views).detach()) == pytest.approx(expected, abs=1e-6)
