"""StrengthNet: neither padding nor batch mates change an answer; and it learns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from affetto.data import Batch
from affetto.intensity.fit import RankerSettings
from affetto.intensity.network import (
    IntensityLossSettings,
    IntensityObjective,
    StrengthNet,
    StrengthNetSettings,
)

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
