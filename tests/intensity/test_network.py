"""StrengthNet: neither padding nor batch mates change an answer; and it learns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from affetto.corpora.manifest import Manifest
from affetto.data import Batch
from affetto.intensity.fit import RankerSettings, SpokenMeanCentred, network_input, predict_curves
from affetto.intensity.network import (
    IntensityLossSettings,
    IntensityObjective,
    StrengthNet,
    StrengthNetSettings,
)
from affetto.material.recordings import Recordings

SMALL = StrengthNetSettings(bins=10, stack=3, width=12, blocks=2, hidden=6)
LENGTHS = torch.tensor([31, 1, 12, 3])


@pytest.fixture
def features() -> Tensor:
    values = -7 + 3 * torch.randn(4, 31, 10)
    for row, length in zip(values, LENGTHS.tolist(), strict=True):
        row[length:] = 0
    return values


def test_padding_and_batch_mates_change_nothing(features: Tensor) -> None:
    network = StrengthNet(SMALL, 3).eval()
    with torch.no_grad():
        together, lengths, emotions = network(
            torch.nn.functional.pad(features, (0, 0, 0, 9), value=5.0), LENGTHS
        )
        for row, length in enumerate(LENGTHS.tolist()):
            alone = network(features[row : row + 1, :length], LENGTHS[row : row + 1])
            frames = int(alone[1])
            assert frames == -(-length // 3) == int(lengths[row])
            torch.testing.assert_close(together[row, :frames], alone[0][0])
            assert not together[row, frames:].any()
            torch.testing.assert_close(emotions[row], alone[2][0])
    assert together[0].std() > 0


def test_intensity_lies_between_nothing_and_one(features: Tensor) -> None:
    network = StrengthNet(SMALL, 3).eval()
    assert network.hop_seconds == pytest.approx(0.03)
    frames = network(100 * features, LENGTHS)[0]
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_losses_are_those_written_out(features: Tensor) -> None:
    objective = IntensityObjective(StrengthNet(SMALL, 3), IntensityLossSettings(emotion=0.5)).eval()
    intensity, label = torch.tensor([0.1, 0.9, 0.4, 0.0]), torch.tensor([0, 2, 1, 1])
    batch = Batch(features, LENGTHS, torch.arange(4), {"intensity": intensity, "label": label})
    losses = objective(batch)
    found, lengths, emotions = objective.network(features, LENGTHS)
    frames = [
        abs(float(found[row, frame]) - float(intensity[row]))
        for row in range(4)
        for frame in range(int(lengths[row]))
    ]
    means = [abs(float(found[row, : int(lengths[row])].mean()) - float(intensity[row])) for row in range(4)]
    chosen = emotions.log_softmax(1)[torch.arange(4), label]
    assert float(losses["frame"]) == pytest.approx(np.mean(frames), abs=1e-6)
    assert float(losses["utterance"]) == pytest.approx(np.mean(means), abs=1e-6)
    assert float(losses["emotion"]) == pytest.approx(-float(chosen.mean()), abs=1e-6)
    assert objective.weights == {"utterance": 1.0, "frame": 1.0, "emotion": 0.5}


def test_a_little_training_lowers_every_loss(features: Tensor) -> None:
    network = StrengthNet(StrengthNetSettings(**{**SMALL.model_dump(), "dropout": 0.0}), 3)
    objective = IntensityObjective(network, IntensityLossSettings(), RankerSettings().augment)
    intensity, label = torch.tensor([0.1, 0.9, 0.4, 0.0]), torch.tensor([0, 2, 1, 1])
    batch = Batch(features, LENGTHS, torch.arange(4), {"intensity": intensity, "label": label})
    before = {name: float(loss) for name, loss in objective.eval()(batch).items()}
    optimiser = torch.optim.Adam(objective.parameters(), lr=0.01)
    objective.train()
    objective.augment = type(objective.augment)(gain_db=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        torch.stack(list(objective(batch).values())).sum().backward()
        optimiser.step()
    after = {name: float(loss) for name, loss in objective.eval()(batch).items()}
    assert all(after[name] < 0.7 * before[name] for name in before), (before, after)


NETWORK = StrengthNetSettings(bins=16, width=12, hidden=8, blocks=1)


def spoken(frames: np.ndarray) -> list[np.ndarray]:
    """The frames of an utterance that are no pause, one by one."""
    powers = [10 * np.log10(np.exp(np.maximum(frame, -14).astype(float)).sum()) for frame in frames]
    kept = [
        np.maximum(frame, -14)
        for frame, power in zip(frames, powers, strict=True)
        if power >= max(powers) - 25
    ]
    assert 0 < len(kept) < len(frames)
    return kept


def test_the_mean_of_every_speaker_is_moved_to_the_middle(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5)
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = network_input(recordings, network, speakers, centre=True)
    features = recordings.features(network.front_end)
    assert isinstance(store, SpokenMeanCentred)
    assert network_input(recordings, network, speakers, centre=False) is not store
    rows = np.array([3, 40])
    values, lengths = store.stack(rows)
    for place, row in enumerate(rows.tolist()):
        own = [frame for at in np.flatnonzero(speakers == speakers[row]) for frame in spoken(features[at])]
        expected = np.maximum(features[row], -14) - np.mean(own, axis=0) - 7
        np.testing.assert_allclose(values[place, : lengths[place]], expected, atol=1e-3)
        assert not values[place, lengths[place] :].any()


def test_silence_around_speech_moves_nothing(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    features = recordings.features(StrengthNet(NETWORK, 5).front_end)
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]

    class Padded:
        values, lengths = features.values, features.lengths + 80

        def __getitem__(self, row: int) -> np.ndarray:
            return np.pad(features[row], ((40, 40), (0, 0)), constant_values=-23.0)

    plain, padded = SpokenMeanCentred(features, speakers), SpokenMeanCentred(Padded(), speakers)  # type: ignore[arg-type]
    torch.testing.assert_close(plain.means, padded.means)


def test_curves_come_in_the_order_that_was_asked(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5).eval()
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = network_input(recordings, network, speakers, centre=True)
    rows = np.array([50, 2, 33])
    curves = predict_curves(recordings, network, store, rows)
    for row, curve in zip(rows.tolist(), curves, strict=True):
        with torch.no_grad():
            alone, _, _ = network(*store.stack(np.array([row])))
        np.testing.assert_allclose(curve, alone[0].numpy(), atol=1e-5)
