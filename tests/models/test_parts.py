"""Poolings, heads and blocks against slow and obvious versions, and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from affetto.errors import ConfigError
from affetto.models.checkpoint import weights_sha256
from affetto.models.embedders import Network, NetworkSettings
from affetto.models.encoder import Frames, chosen_device, frame_mask, normalise_logmel
from affetto.models.ge2e import Ge2eSettings, Ge2eSpectrumSettings
from affetto.models.heads import KernelHead, LinearHead, Standardise
from affetto.models.layers import AttentiveStatistics, Context, MeanPooling, StatisticsPooling
from affetto.models.logmel import Cnn, CnnSettings

FRAMES = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([9, 1, 5])


def test_mean_and_deviation_are_those_of_the_valid_frames() -> None:
    mean, both = MeanPooling(4)(FRAMES, LENGTHS), StatisticsPooling(4)(FRAMES, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        own = FRAMES[row, :length]
        torch.testing.assert_close(mean[row], own.mean(0))
        expected = torch.cat([own.mean(0), own.std(0, correction=0).clamp_min(1e-3)])
        torch.testing.assert_close(both[row], expected)
    assert StatisticsPooling(4).dim == 8


def test_attentive_statistics_are_weighted_by_a_softmax_over_valid_frames() -> None:
    pooling = AttentiveStatistics(4, hidden=3)
    pooling.requires_grad_(False)
    pooled = pooling(FRAMES, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        own = FRAMES[row, :length]
        for channel in range(4):
            scores = pooling.score(own)[:, channel]
            weights = torch.exp(scores) / torch.exp(scores).sum()
            mean = sum(float(w) * float(x) for w, x in zip(weights, own[:, channel], strict=True))
            variance = sum(
                float(w) * (float(x) - mean) ** 2 for w, x in zip(weights, own[:, channel], strict=True)
            )
            assert float(pooled[row, channel]) == pytest.approx(mean, abs=1e-5)
            assert float(pooled[row, 4 + channel]) == pytest.approx(max(variance, 1e-6) ** 0.5, abs=1e-4)


def test_masks_and_lengths() -> None:
    assert frame_mask(torch.tensor([2, 0]), 3)[..., 0].tolist() == [[1, 1, 0], [0, 0, 0]]
    encoder = Cnn(CnnSettings(width=8, blocks=1, bins=8))
    for length in range(1, 12):
        frames = encoder(torch.zeros(1, length, 8), torch.tensor([length]))
        assert int(frames.lengths) == frames.values.shape[1]
    assert normalise_logmel(torch.tensor([-30.0, -14.0, -7.0, 1.0])).tolist() == [-1.75, -1.75, 0.0, 2.0]


def test_a_context_block_skips_utterances_in_training_only_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    block = Context(4, drop_path=0.5)
    frames = FRAMES[:1].expand(4000, -1, -1)
    mask = torch.ones(4000, 9, 1)
    quiet = block.eval()(frames[:1], mask[:1])[0]
    drawn = block.train()(frames, mask)
    skipped = (drawn == frames).flatten(1).all(1).float().mean()
    assert 0.45 < float(skipped) < 0.55
    torch.testing.assert_close(drawn.mean(0), quiet, atol=0.05, rtol=0)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_linear_head_takes_over_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((60, 5))
    truth = np.arange(60) % classes
    values[:, 0] += truth
    model = LogisticRegression().fit(values, truth)
    weight, bias = np.atleast_2d(model.coef_), model.intercept_
    head = LinearHead(5, len(weight))
    head.assign(weight, bias)
    scores = head(torch.from_numpy(values).float()).detach().numpy()
    np.testing.assert_allclose(scores.squeeze(), model.decision_function(values), atol=1e-5)


def test_a_kernel_head_is_a_support_vector_machine_a_class() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((50, 6))
    truth = np.arange(50) % 3
    values[:, 0] += truth
    machines = [SVC(C=2.0, gamma=0.1).fit(values, truth == label) for label in range(3)]
    used = np.unique(np.concatenate([machine.support_ for machine in machines]))
    head = KernelHead(6, 3, len(used))
    head.support.copy_(torch.from_numpy(values[used]))
    head.gamma.fill_(0.1)
    for label, machine in enumerate(machines):
        places = np.searchsorted(used, machine.support_)
        head.coefficients[label, torch.from_numpy(places)] = torch.from_numpy(machine.dual_coef_[0]).float()
        head.bias[label] = float(machine.intercept_[0])
    fresh = generator.standard_normal((20, 6))
    expected = np.stack([machine.decision_function(fresh) for machine in machines], axis=1)
    np.testing.assert_allclose(head(torch.from_numpy(fresh).float()).numpy(), expected, atol=1e-5)


def test_standardising_is_that_of_scikit_learn_clipped() -> None:
    values = np.random.default_rng(0).normal(3, 2, (40, 3)).astype(np.float32)
    values[:, 2] = 5.0  # never varies
    standard = Standardise(3).fit(torch.from_numpy(values))
    expected = StandardScaler().fit_transform(values[:, :2])
    np.testing.assert_allclose(standard(torch.from_numpy(values))[:, :2].numpy(), expected, atol=1e-5)
    assert not standard(torch.from_numpy(values))[:, 2].any()
    assert float(standard(torch.full((1, 3), 1e6)).max()) == Standardise.CLIP


def test_a_probe_sums_layers_by_softmax_weights() -> None:
    probe = Network(
        NetworkSettings(encoder=Ge2eSettings(hidden=4), layers="weighted", pooling="mean", norm=False)
    )
    probe.layer_weights.data = torch.tensor([0.3, -1.0, 2.0])
    layers = (FRAMES, FRAMES**2, FRAMES + 1)
    pooled = probe.pool(Frames(layers, LENGTHS))
    shares = np.exp([0.3, -1.0, 2.0]) / np.exp([0.3, -1.0, 2.0]).sum()
    for row, length in enumerate(LENGTHS.tolist()):
        summed = sum(float(s) * layer[row, :length] for s, layer in zip(shares, layers, strict=True))
        torch.testing.assert_close(pooled[row], torch.as_tensor(summed).mean(0))


def test_layers_of_different_widths_cannot_be_summed() -> None:
    with pytest.raises(ConfigError, match="cannot be summed; use layers: all"):
        Network(NetworkSettings(encoder=Ge2eSpectrumSettings(hidden=4, bins=8), layers="weighted"))


@pytest.mark.parametrize("layers", [0, 1, 2, "last"])
def test_one_layer_alone_is_read_by_its_number(layers: int | str) -> None:
    network = Network(
        NetworkSettings(encoder=Ge2eSettings(hidden=4), layers=layers, pooling="mean", norm=False)
    )
    several = tuple(FRAMES + number for number in range(3))
    pooled = network.pool(Frames(several, LENGTHS))
    number = 2 if layers == "last" else int(layers)
    torch.testing.assert_close(pooled, MeanPooling(4)(FRAMES + number, LENGTHS))


def test_a_projector_comes_before_the_pooling_and_a_mean_cannot_tell() -> None:
    settings = NetworkSettings(
        encoder=Ge2eSettings(hidden=4), layers="weighted", pooling="mean", norm=False, projector=7
    )
    network = Network(settings)
    assert network.dim == 7
    several = (FRAMES, 2 * FRAMES, FRAMES - 1)
    pooled = network.pool(Frames(several, LENGTHS))
    weight, bias = network.projector.weight, network.projector.bias
    for row, length in enumerate(LENGTHS.tolist()):
        frames = torch.stack(
            [sum(layer[row, t] for layer in several) / 3 @ weight.T + bias for t in range(length)]
        )
        torch.testing.assert_close(pooled[row], frames.mean(0))
    # So that a probe with a projector may read cached means.
    means = tuple(MeanPooling(4)(layer, LENGTHS)[:, None] for layer in several)
    torch.testing.assert_close(network.pool(Frames(means, torch.ones(3, dtype=torch.int64))), pooled)


def test_a_hash_of_weights_follows_every_number_and_name() -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    assert weights_sha256(one) == weights_sha256(other)
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert weights_sha256(one) != weights_sha256(other)
    assert weights_sha256(nn.Sequential(one)) != weights_sha256(one)


def test_a_device_that_is_not_there_is_named() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"cannot use the device 'nowhere': .*; cpu is always there"):
        chosen_device("nowhere")


def test_a_kernel_head_scores_a_row_alike_in_every_place() -> None:
    generator = torch.Generator().manual_seed(0)
    head = KernelHead(88, 6, 700)
    head.support.copy_(torch.randn(700, 88, generator=generator))
    head.coefficients.copy_(torch.randn(6, 700, generator=generator))
    head.gamma.fill_(0.01)
    rows = torch.randn(61, 88, generator=generator)
    scores = head(rows)
    for size in (1, 2, 7, 24, 60):
        torch.testing.assert_close(head(rows[-size:]), scores[-size:], rtol=0, atol=0)
