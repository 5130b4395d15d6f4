"""NPC's losses beside slow loops, what a mask chooses, the quantiser, and a little training."""

import pytest
import torch
from torch import Tensor

from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.masking import MaskSettings
from affetto.models.logmel import Tdnn
from affetto.models.masked_encoders import Npc, NpcSettings
from affetto.objectives import masked
from affetto.objectives.masked import NpcObjective, NpcObjectiveSettings, Quantiser

RANDOM = MaskSettings()
EMOTIONAL = MaskSettings(guidance="emotional")
BOTH = NpcObjectiveSettings(intensity_input=True, intensity_loss=True)


def encoder(**more: object) -> Npc:
    torch.manual_seed(0)
    shape = {"width": 16, "bins": 12, "dropout": 0.0}
    return Npc(NpcSettings(**{**shape, **more}))  # type: ignore[arg-type]


def batch(lengths: tuple[int, ...] = (60, 41, 33), bins: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(1)
    sizes, frames = torch.tensor(lengths), max(lengths)
    valid = torch.arange(frames) < sizes[:, None]
    curves = torch.rand(len(sizes), frames, generator=generator) * valid
    features = torch.randn(len(sizes), frames, bins, generator=generator) * valid[:, :, None]
    return Batch(features, sizes, torch.arange(len(sizes)), {"guide": curves, "intensity": curves})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The masks that were drawn, one after the other."""
    found, hide = [], masked.hidden_frames

    def hidden_frames(*given: object) -> Tensor:
        found.append(hide(*given))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(masked, "hidden_frames", hidden_frames)
    return found


def slow(rebuilt: Tensor, target: Tensor, carrying: Tensor) -> float:
    rebuilt, total, count = rebuilt.detach(), 0.0, 0
    for row in range(len(carrying)):
        for frame in range(carrying.shape[1]):
            if carrying[row, frame]:
                total += float((rebuilt[row, frame] - target[row, frame]).abs().mean())
                count += 1
    return total / count


def test_plain_every_frame_carries_the_loss_and_nothing_is_drawn(drawn: list[Tensor]) -> None:
    objective, given = NpcObjective(encoder(), NpcObjectiveSettings(), EMOTIONAL).eval(), batch()
    losses = objective(Batch(given.values, given.lengths, given.index, {}))
    valid = torch.arange(60) < given.lengths[:, None]
    rebuilt = objective.head(objective.encoder(given.values, given.lengths).values)
    assert set(losses) == {"npc"}
    assert float(losses["npc"].detach()) == pytest.approx(slow(rebuilt, given.values, valid), rel=1e-5)
    assert objective.weights == {"npc": 1.0}
    assert not drawn


@pytest.mark.parametrize("stack", [1, 3])
def test_a_mask_chooses_the_frames_that_carry_it(stack: int, drawn: list[Tensor]) -> None:
    given, settings = batch(), NpcObjectiveSettings(frames="chosen")
    objective = NpcObjective(encoder(stack=stack), settings, EMOTIONAL).eval()
    losses = objective(given)
    encoded = objective.encoder(given.values, given.lengths).values
    rebuilt = objective.head(encoded).reshape(3, 60, 12)
    assert float(losses["npc"].detach()) == pytest.approx(slow(rebuilt, given.values, drawn[0]), rel=1e-5)
    assert float(losses["hidden_share"]) == pytest.approx(21 / 134)
    assert objective.weights == {"npc": 1.0, "hidden_share": 0.0}


def test_intensity_is_added_and_rebuilt() -> None:
    objective, given = NpcObjective(encoder(), BOTH, RANDOM).eval(), batch()
    losses = objective(given)
    valid = torch.arange(60) < given.lengths[:, None]
    both = given.values + given.columns["intensity"][:, :, None]
    encoded = objective.encoder(both, given.lengths).values
    expected = slow(objective.head(encoded), given.values, valid)
    assert float(losses["npc"].detach()) == pytest.approx(expected, rel=1e-5)
    expected = slow(objective.intensity_head(encoded), both, valid)
    assert float(losses["intensity"].detach()) == pytest.approx(expected, rel=1e-5)
    assert objective.weights == {"npc": 1.0, "intensity": 1.0}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_the_seed_decides_and_nothing_else() -> None:
    settings = NpcObjectiveSettings(frames="chosen", quantise=True)
    objective = NpcObjective(encoder(), settings, EMOTIONAL)
    for training in (True, False):
        objective.train(training)
        found = []
        for seed in (4, 4, 5):
            torch.manual_seed(seed)
            found.append(float(objective(batch())["npc"].detach()))
        assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("lengths", [(1,), (3, 6, 1)])
def test_where_all_are_too_short_to_choose_from_the_loss_is_zero(lengths: tuple[int, ...]) -> None:
    settings = NpcObjectiveSettings(frames="chosen", intensity_loss=True)
    objective = NpcObjective(encoder(), settings, EMOTIONAL).train()
    losses = objective(batch(lengths))
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {
        "npc": 0,
        "intensity": 0,
        "hidden_share": 0,
    }
    sum(losses.values()).backward()
    plain = NpcObjective(encoder(), NpcObjectiveSettings(), RANDOM)(batch(lengths))["npc"]
    assert 0 < float(plain.detach()) < 5


def test_each_group_is_one_of_its_vectors() -> None:
    quantiser, frames = Quantiser(6), torch.randn(2, 5, 6)
    groups = quantiser.eval()(frames).unflatten(2, (4, 128))
    scores = quantiser.choose(frames).unflatten(2, (4, 64))
    for group in range(4):
        expected = quantiser.vectors[group][scores[:, :, group].argmax(2)]
        torch.testing.assert_close(groups[:, :, group], expected)
    chosen = quantiser.train()(frames).unflatten(2, (4, 128))
    distances = (chosen[:, :, :, None] - quantiser.vectors).abs().amax(4)
    assert (distances.amin(3) < 1e-5).all()
    chosen.sum().backward()
    assert quantiser.choose.weight.grad is not None
    assert quantiser.choose.weight.grad.any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"npc trains the encoder npc, .* not tdnn"):
        NpcObjective(Tdnn(), NpcObjectiveSettings(), RANDOM)  # type: ignore[arg-type]


@pytest.mark.parametrize("quantise", [False, True])
def test_a_little_training_lowers_both_losses(quantise: bool) -> None:
    settings = BOTH.model_copy(update={"quantise": quantise})
    objective = NpcObjective(encoder(), settings, RANDOM).train()
    place = torch.arange(60) / 5
    wave = torch.stack([torch.sin(place + band / 3) for band in range(12)], dim=1).expand(8, -1, -1)
    curve = (0.5 + 0.5 * torch.sin(place)).expand(8, -1)
    given = Batch(wave, torch.full((8,), 60), torch.arange(8), {"intensity": curve})
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    course = []
    for _ in range(40):
        losses = objective(given)
        course.append({name: float(loss.detach()) for name, loss in losses.items()})
        (losses["npc"] + losses["intensity"]).backward()
        optimiser.step()
        optimiser.zero_grad()
    for name in ("npc", "intensity"):
        assert course[-1][name] < 0.7 * course[0][name]


def test_half_precision_will_do() -> None:
    settings = NpcObjectiveSettings(frames="chosen", quantise=True, intensity_loss=True)
    with torch.autocast("cpu", torch.bfloat16):
        losses = NpcObjective(encoder(), settings, EMOTIONAL).train()(batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
