"""NPC's encoder: what is hidden stays hidden, what is beside it is seen."""

import pytest
import torch
from torch.nn import functional as F

from affetto.config import build
from affetto.errors import ConfigError
from affetto.models.masked_encoders import MaskedConvolution, Npc, NpcSettings

SMALL = NpcSettings(width=12, bins=9)
FRAMES, CENTRE = 61, 30


def influence(encoder: Npc) -> list[int]:
    """Offsets of the input frames that reach the sum at the frame in the middle."""
    torch.manual_seed(3)
    features = torch.randn(1, FRAMES, encoder.front_end.dim).requires_grad_()
    encoder(features, torch.tensor([FRAMES])).values[0, CENTRE].sum().backward()
    assert features.grad is not None
    return [place - CENTRE for place in range(FRAMES) if features.grad[0, place].any()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("hidden", "blocks"), [(5, 4), (1, 3), (3, 1)])
def test_the_centre_never_reaches_the_sum(hidden: int, blocks: int, training: bool) -> None:
    shape = NpcSettings(width=12, bins=9, hidden=hidden, blocks=blocks, dropout=0.0)
    encoder = Npc(shape).train(training)
    half, reach = hidden // 2, 7 + blocks
    expected = [d for d in range(-reach, reach + 1) if abs(d) > half]
    assert influence(encoder) == expected


def test_dropout_does_not_let_it_through() -> None:
    encoder = Npc(NpcSettings(width=12, bins=9, dropout=0.5)).train()
    for _ in range(5):
        assert not {-2, -1, 0, 1, 2} & set(influence(encoder))


@pytest.mark.parametrize("hidden", [1, 7, 13])
def test_a_masked_convolution_is_a_full_one_with_zeros_in_the_middle(hidden: int) -> None:
    layer = MaskedConvolution(6, 15, hidden)
    full = torch.cat([layer.before, torch.zeros(6, 6, hidden), layer.after], dim=2)
    frames = torch.randn(2, 30, 6)
    expected = F.conv1d(frames.transpose(1, 2), full, layer.bias, padding=7).transpose(1, 2)
    torch.testing.assert_close(layer(frames), expected, atol=1e-5, rtol=1e-5)


def test_blocks_add_their_input_but_for_the_first() -> None:
    frames = torch.randn(2, 9, 12)
    blocks = Npc(NpcSettings(width=12, bins=12)).eval().blocks
    for number, block in enumerate(blocks):
        hidden = F.conv1d(frames.transpose(1, 2), block.over_time.weight, block.over_time.bias, padding=1)
        hidden = F.layer_norm(hidden.transpose(1, 2), (12,)).clamp_min(0)
        hidden = F.layer_norm(block.pointwise(hidden), (12,)) + (frames if number else 0)
        torch.testing.assert_close(block(frames), hidden.clamp_min(0), atol=1e-5, rtol=1e-5)


def test_layers_are_blocks_masked_convolutions_and_their_sum() -> None:
    encoder = Npc(SMALL).eval()
    encoded = encoder(torch.randn(1, 30, 9), torch.tensor([30]))
    assert len(encoded.layers) == 9
    torch.testing.assert_close(sum(encoded.layers[4:8]), encoded.values)
    assert encoded.layers[8] is encoded.values


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"hidden": 7}, r"kernel 15 is too small: .* 15 frames .* take kernel 17"), ({"kernel": 16}, "odd")],
)
def test_a_kernel_without_taps_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(NpcSettings, wrong)
