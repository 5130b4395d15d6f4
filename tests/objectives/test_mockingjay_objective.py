"""Hidden frames rebuilt: the losses beside slow loops, the two switches, and a little training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.features import FrontEnd
from affetto.masking import MaskSettings
from affetto.models.encoder import Encoder, Frames, feature_scale, network_scale
from affetto.models.ge2e import Ge2e, Ge2eSettings
from affetto.models.logmel import Cnn, CnnSettings, Tdnn, TdnnSettings
from affetto.models.masked_encoders import Mockingjay, MockingjaySettings
from affetto.objectives import masked
from affetto.objectives.masked import MockingjayObjective, MockingjayObjectiveSettings
from affetto.optimising import TrainSettings
from affetto.runs import RunFolder
from affetto.training import fit

RANDOM = MaskSettings()
EMOTIONAL = MaskSettings(guidance="emotional")
BOTH = MockingjayObjectiveSettings(intensity_input=True, intensity_loss=True)


def encoder(**more: object) -> Mockingjay:
    torch.manual_seed(0)
    shape = {"width": 16, "blocks": 1, "heads": 2, "feed_forward": 24, "bins": 12, "stack": 2, "dropout": 0.0}
    return Mockingjay(MockingjaySettings(**{**shape, **more}))  # type: ignore[arg-type]


def batch(lengths: tuple[int, ...] = (60, 41, 33), bins: int = 12, more: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    sizes, frames = torch.tensor(lengths), max(lengths)
    valid = torch.arange(frames + more) < sizes[:, None]
    curves = torch.rand(len(sizes), frames + more, generator=generator) * valid
    features = torch.randn(len(sizes), frames, bins, generator=generator) * valid[:, :frames, None]
    return Batch(features, sizes, torch.arange(len(sizes)), {"guide": curves, "intensity": curves})


class Drawn:
    """Takes down which frames were hidden and what was made of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide, change = masked.hidden_frames, masked.corrupt

        def hidden_frames(*given: object) -> Tensor:
            self.guide = given[3]
            self.hidden = hide(*given)  # type: ignore[arg-type]
            return self.hidden

        def corrupt(*given: object) -> tuple[Tensor, Tensor | None]:
            self.masked, self.curve = change(*given)  # type: ignore[arg-type]
            return self.masked, self.curve

        monkeypatch.setattr(masked, "hidden_frames", hidden_frames)
        monkeypatch.setattr(masked, "corrupt", corrupt)


def slow(rebuilt: Tensor, target: Tensor, hidden: Tensor) -> float:
    rebuilt, total, count = rebuilt.detach(), 0.0, 0
    for row in range(len(hidden)):
        for frame in range(hidden.shape[1]):
            if hidden[row, frame]:
                total += float((rebuilt[row, frame] - target[row, frame]).abs().mean())
                count += 1
    return total / count


def test_the_loss_is_the_mean_distance_over_hidden_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, given = Drawn(monkeypatch), batch()
    objective = MockingjayObjective(encoder(), MockingjayObjectiveSettings(), RANDOM).eval()
    losses = objective(given)
    frames = objective.encoder(drawn.masked, given.lengths).values
    rebuilt = objective.head(frames).reshape(3, 60, 12)  # two feature frames under each
    assert set(losses) == {"mockingjay", "hidden_share"}
    assert float(losses["mockingjay"].detach()) == pytest.approx(
        slow(rebuilt, given.values, drawn.hidden), rel=1e-5
    )
    assert float(losses["hidden_share"]) == pytest.approx(21 / 134)
    assert objective.weights == {"mockingjay": 1.0, "hidden_share": 0.0}


def test_intensity_is_added_and_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, given = Drawn(monkeypatch), batch()
    objective = MockingjayObjective(encoder(), BOTH, EMOTIONAL).eval()
    losses = objective(given)
    assert drawn.curve is not None
    torch.testing.assert_close(drawn.guide, given.columns["guide"][:, :60])
    level = drawn.curve[:, :, None]
    frames = objective.encoder(drawn.masked + level, given.lengths).values
    rebuilt = objective.head(frames).reshape(3, 60, 12)
    assert float(losses["mockingjay"].detach()) == pytest.approx(
        slow(rebuilt, given.values, drawn.hidden), rel=1e-5
    )
    frames = objective.encoder(level.repeat(1, 1, 12), given.lengths).values
    rebuilt = objective.intensity_head(frames).reshape(3, 60, 1)
    curve = given.columns["intensity"][:, :60, None]
    assert float(losses["intensity"]) == pytest.approx(slow(rebuilt, curve, drawn.hidden), rel=1e-5)
    assert objective.weights == {"mockingjay": 1.0, "intensity": 1.0, "hidden_share": 0.0}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_with_both_switches_off_intensity_does_not_matter() -> None:
    objective = MockingjayObjective(encoder(), MockingjayObjectiveSettings(), RANDOM).eval()
    given = batch()
    without = Batch(given.values, given.lengths, given.index, {})
    torch.manual_seed(4)
    one = objective(given)
    torch.manual_seed(4)
    other = objective(without)
    assert {name: float(loss) for name, loss in one.items()} == {name: float(x) for name, x in other.items()}


def test_the_seed_decides_and_nothing_else() -> None:
    objective = MockingjayObjective(encoder(), BOTH, EMOTIONAL).eval()
    found = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        found.append(float(objective(batch())["mockingjay"]))
    assert found[0] == found[1] != found[2]


def test_only_hidden_frames_carry_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Through(Encoder):
        """Gives back what it is told, whatever it reads."""

        front_end, dim, hop_seconds = FrontEnd(bins=12, cmvn=True), 12, 0.01

        def forward(self, features: Tensor, lengths: Tensor) -> Frames:
            return Frames((self.told,), lengths)

    given, drawn = batch(), Drawn(monkeypatch)
    through = Through()
    objective = MockingjayObjective(through, MockingjayObjectiveSettings(), RANDOM)
    objective.head = torch.nn.Identity()  # type: ignore[assignment]
    through.told = given.values.clone().requires_grad_()
    torch.manual_seed(0)
    assert float(objective(given)["mockingjay"]) == 0
    through.told = (given.values + 1).detach().requires_grad_()
    objective(given)["mockingjay"].backward()
    assert torch.equal(through.told.grad.abs().sum(2) > 0, drawn.hidden)


@pytest.mark.parametrize("lengths", [(1,), (3, 6, 1)])
def test_where_all_are_too_short_the_loss_is_zero(lengths: tuple[int, ...]) -> None:
    objective = MockingjayObjective(encoder(), BOTH, EMOTIONAL).train()
    losses = objective(batch(lengths))
    assert {name: float(loss) for name, loss in losses.items()} == {
        "mockingjay": 0,
        "intensity": 0,
        "hidden_share": 0,
    }
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in objective.head.parameters())


def test_samples_and_features_give_the_same() -> None:
    objective = MockingjayObjective(encoder(), MockingjayObjectiveSettings(), RANDOM).eval()
    samples, lengths = 0.1 * torch.randn(2, 16_000), torch.tensor([16_000, 9000])
    features, frames = objective.encoder.front_end(samples, lengths)
    found = []
    for values, sizes in ((samples, lengths), (features, frames)):
        torch.manual_seed(4)
        found.append(float(objective(Batch(values, sizes, torch.arange(2), {}))["mockingjay"]))
    assert found[0] == found[1] > 0


@pytest.mark.parametrize(
    "network",
    [
        Tdnn(TdnnSettings(width=12, blocks=1, bins=16, stack=4)),
        Cnn(CnnSettings(width=12, blocks=1, bins=16)),
        Ge2e(Ge2eSettings(hidden=8)),
    ],
    ids=["tdnn", "cnn", "ge2e"],
)
def test_any_encoder_of_spectra_will_do(network: Encoder) -> None:
    objective = MockingjayObjective(network, BOTH, EMOTIONAL).train()
    samples, lengths = 0.1 * torch.randn(2, 24_000), torch.tensor([24_000, 13_000])
    curves = torch.rand(2, 140)
    losses = objective(Batch(samples, lengths, torch.arange(2), {"guide": curves, "intensity": curves}))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert 0.3 < float(losses["mockingjay"]) < 10


@pytest.mark.parametrize("kind", ["logmel", "mel", "fbank"])
@pytest.mark.parametrize("cmvn", [False, True])
def test_what_a_network_reads_can_be_put_back(kind: str, cmvn: bool) -> None:
    front_end = FrontEnd(kind=kind, bins=12, cmvn=cmvn)
    features, _ = front_end(0.1 * torch.randn(1, 8000), torch.tensor([8000]))
    scaled = network_scale(features, front_end)
    assert scaled.abs().mean() < 3 or (kind == "fbank" and not cmvn)
    torch.testing.assert_close(feature_scale(scaled, front_end), features, atol=1e-5, rtol=1e-4)


def test_an_encoder_of_samples_is_refused() -> None:
    network = encoder()
    network.front_end = FrontEnd(kind="waveform")
    with pytest.raises(ConfigError, match="reads samples"):
        MockingjayObjective(network, MockingjayObjectiveSettings(), RANDOM)


def test_a_little_training_lowers_both_losses() -> None:
    objective = MockingjayObjective(encoder(), BOTH, EMOTIONAL).train()
    place = torch.arange(60) / 5
    wave = torch.stack([torch.sin(place + band / 3) for band in range(12)], dim=1).expand(8, -1, -1)
    curve = (0.5 + 0.5 * torch.sin(place)).expand(8, -1)
    given = Batch(wave, torch.full((8,), 60), torch.arange(8), {"guide": curve, "intensity": curve})
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    course = []
    for _ in range(60):
        losses = objective(given)
        course.append({name: float(loss.detach()) for name, loss in losses.items()})
        (losses["mockingjay"] + losses["intensity"]).backward()
        optimiser.step()
        optimiser.zero_grad()
    for name in ("mockingjay", "intensity"):
        assert course[-1][name] < 0.7 * course[0][name]


class Same:
    """The same batch twice an epoch."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Batch]:
        yield from (batch(), batch())

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def test_the_log_holds_the_losses_and_how_much_was_hidden(tmp_path: Path) -> None:
    objective = MockingjayObjective(encoder(), BOTH, EMOTIONAL)
    rows = fit(objective, Same(), TrainSettings(epochs=2, precision="full"), RunFolder(tmp_path))
    for row in rows:
        assert row["hidden_share"] == pytest.approx(21 / 134)
        assert row["mockingjay"] > 0 < row["intensity"]


@pytest.mark.parametrize("settings", [MockingjayObjectiveSettings(), BOTH])
def test_half_precision_will_do(settings: MockingjayObjectiveSettings) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = MockingjayObjective(encoder(), settings, EMOTIONAL).train()(batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
