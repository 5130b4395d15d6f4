"""Hidden frames: as many whatever leads to them, and where the guide is high."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from affetto.config import build
from affetto.errors import ConfigError
from affetto.masking import MaskSettings, corrupt, fitted, hidden_frames

EVERY = ["random", "emotional", "energy", "voiced", "own-column"]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, frames: int, lengths: Tensor | None = None, width: int = 15) -> Tensor:
    """Curves from 0 to 1 that change slowly, zero past each length."""
    rough = torch.rand(count, frames + width - 1, generator=random(7))
    curves = torch.nn.functional.avg_pool1d(rough[:, None], width, stride=1)[:, 0]
    return curves if lengths is None else fitted(curves, lengths, frames)


def draw(guidance: str, lengths: Tensor, frames: int, seed: int = 0, **more: object) -> Tensor:
    chosen = MaskSettings(guidance=guidance, **more)  # type: ignore[arg-type]
    guide = None if chosen.curve is None else smooth(len(lengths), frames, lengths)
    return hidden_frames(lengths, frames, chosen, guide, random(seed))


def runs(row: Tensor) -> list[tuple[int, int]]:
    """Start and length of every stretch of True."""
    found: list[tuple[int, int]] = []
    for place, value in enumerate(row.tolist()):
        if value and found and sum(found[-1]) == place:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif value:
            found.append((place, 1))
    return found


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=4),
    more=st.integers(0, 5),
    ratio=st.floats(0.01, 0.5),
    span=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_every_guidance_hides_exactly_as_many_frames(
    lengths: list[int], more: int, ratio: float, span: int, seed: int
) -> None:
    sizes, frames = torch.tensor(lengths), max(lengths) + more
    expected = [span * max(1, round(ratio * length / span)) if length > span else 0 for length in lengths]
    for guidance in EVERY:
        hidden = draw(guidance, sizes, frames, seed, ratio=ratio, span=span)
        assert hidden.sum(1).tolist() == expected
        for row, length in zip(hidden, lengths, strict=True):
            assert not row[length:].any()
            # Spans that do not overlap leave stretches of whole spans.
            assert all(size % span == 0 for _, size in runs(row))


@pytest.mark.parametrize("span", [1, 2, 7, 20])
def test_half_of_any_utterance_always_finds_room(span: int) -> None:
    sizes = torch.arange(1, 90)
    for seed in range(20):
        hidden = draw("random", sizes, 90, seed, ratio=0.5, span=span)
        wanted = [span * max(1, round(0.5 * size / span)) if size > span else 0 for size in sizes.tolist()]
        assert hidden.sum(1).tolist() == wanted


def test_more_than_half_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ratio.*0\.5"):
        build(MaskSettings, {"ratio": 0.6})


@pytest.mark.parametrize("guidance", EVERY)
def test_the_generator_decides_everything(guidance: str) -> None:
    sizes = torch.tensor([300, 200, 250])
    first, again, other = (draw(guidance, sizes, 300, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_call_draws_anew() -> None:
    generator, sizes = random(), torch.tensor([300, 200])
    first, second = (hidden_frames(sizes, 300, MaskSettings(), None, generator) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("guidance", EVERY)
def test_how_many_are_hidden_does_not_depend_on_batch_mates(guidance: str) -> None:
    alone = draw(guidance, torch.tensor([101]), 101)
    together = draw(guidance, torch.tensor([400, 101, 6]), 400)
    assert int(alone.sum()) == int(together[1].sum())


def test_a_guide_is_followed_the_more_the_sharper() -> None:
    sizes = torch.full((200,), 300)
    curves = smooth(200, 300)
    levels = []
    for sharpness in (0.0, 1.0, 3.0):
        chosen = MaskSettings(guidance="emotional", sharpness=sharpness)
        levels.append(float(curves[hidden_frames(sizes, 300, chosen, curves, random())].mean()))
    mean, deviation = float(curves.mean()), float(curves.std())
    assert abs(levels[0] - mean) < 0.1 * deviation
    assert levels[1] > mean + 0.4 * deviation
    assert levels[2] > levels[1] + 0.2 * deviation


def test_chances_are_in_proportion_to_the_exponential() -> None:
    guide = torch.tensor([[0.0, 1.0, 5.0, 2.0]]).repeat(8_000, 1)
    chosen = MaskSettings(guidance="energy", span=1, ratio=0.25, sharpness=1.5)
    hidden = hidden_frames(torch.full((8_000,), 4), 4, chosen, guide, random())
    scores = (guide[0] - guide[0].mean()) / guide[0].std(correction=0)
    torch.testing.assert_close(hidden.float().mean(0), (1.5 * scores).softmax(0), atol=0.015, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.3, -61.7])
def test_a_flat_guide_is_random(level: float) -> None:
    sizes = torch.tensor([300, 120, 9])
    rounding = 1 + 1e-7 * torch.randn(3, 300, generator=random())
    guide = fitted(level * rounding, sizes, 300)
    led = hidden_frames(sizes, 300, MaskSettings(guidance="emotional"), guide, random(4))
    assert torch.equal(led, draw("random", sizes, 300, 4))


@pytest.mark.parametrize("guidance", EVERY)
def test_short_utterances_are_safe(guidance: str) -> None:
    sizes = torch.arange(0, 16)
    hidden = draw(guidance, sizes, 16)
    assert not hidden[:8].any()  # of seven frames nothing would be left
    assert not (hidden & (torch.arange(16) >= sizes[:, None])).any()
    assert hidden[8:].sum(1).tolist() == [7] * 8
    assert not draw(guidance, torch.tensor([3, 1]), 3).any()  # fewer frames than a span has


def test_a_missing_or_misshapen_guide_is_named() -> None:
    sizes = torch.tensor([30])
    for guide in (None, torch.zeros(1, 29)):
        with pytest.raises(ConfigError, match="loudness"):
            hidden_frames(sizes, 30, MaskSettings(guidance="energy"), guide, random())


def test_which_column_a_guidance_looks_at() -> None:
    assert {name: MaskSettings(guidance=name).curve for name in EVERY} == {
        "random": None,
        "emotional": "intensity",
        "energy": "loudness",
        "voiced": "voicing",
        "own-column": "own-column",
    }
    assert MaskSettings(guidance="emotional", column="intensity_2").curve == "intensity_2"
    with pytest.raises(ConfigError, match="looks at no column"):
        build(MaskSettings, {"guidance": "random", "column": "intensity_2"})


def test_curves_are_fitted_to_the_frames() -> None:
    curves, sizes = torch.ones(2, 5), torch.tensor([4, 2])
    assert fitted(curves, sizes, 3).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert fitted(curves, sizes, 6).tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]


def test_hidden_frames_are_emptied_moved_or_left_utterance_by_utterance() -> None:
    count, frames = 2000, 60
    sizes = torch.randint(20, frames + 1, (count,), generator=random())
    # The first column says which frame of which utterance it is; never zero.
    names = 1 + torch.arange(count)[:, None] * frames + torch.arange(frames)
    features = torch.stack([names, -names], dim=2).double()
    features = features.masked_fill((torch.arange(frames) >= sizes[:, None])[:, :, None], 0.0)
    hidden = draw("random", sizes, frames, ratio=0.4)
    changed, curve = corrupt(features, hidden, sizes, random(1), features[:, :, 0])
    assert curve is not None
    torch.testing.assert_close(curve, changed[:, :, 0])
    torch.testing.assert_close(changed[:, :, 0], -changed[:, :, 1])
    torch.testing.assert_close(changed[~hidden], features[~hidden])
    kinds = {"emptied": 0, "left": 0, "moved": 0}
    for row in range(count):
        got, was = changed[row, hidden[row], 0], features[row, hidden[row], 0]
        if not got.any():
            kinds["emptied"] += 1
        elif torch.equal(got, was):
            kinds["left"] += 1
        else:
            kinds["moved"] += 1
            for start, size in runs(hidden[row]):  # a stretch of the same utterance, in its order
                stretch = changed[row, start : start + size, 0]
                assert (stretch.diff() == 1).all()
                assert row * frames < stretch[0] <= stretch[-1] <= row * frames + int(sizes[row])
    assert kinds["emptied"] / count == pytest.approx(0.8, abs=0.03)
    assert kinds["left"] / count == pytest.approx(0.1, abs=0.025)
    assert kinds["moved"] / count == pytest.approx(0.1, abs=0.025)


def test_what_is_given_stays_as_it_is() -> None:
    features, hidden = torch.ones(3, 9, 2), torch.ones(3, 9, dtype=torch.bool)
    changed, nothing = corrupt(features, hidden, torch.tensor([9, 9, 9]), random())
    assert nothing is None
    assert features.all()
    assert changed.isfinite().all()
