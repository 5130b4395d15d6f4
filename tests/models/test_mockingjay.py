"""Mockingjay's encoder: positions, attention beside torch's own, and memory."""

import math

import pytest
import torch
from torch import Tensor, nn

from affetto.config import build
from affetto.errors import ConfigError
from affetto.models.masked_encoders import Mockingjay, MockingjaySettings, TransformerBlock, positions

SMALL = MockingjaySettings(width=16, blocks=2, heads=4, feed_forward=24, bins=20, stack=2, dropout=0.0)


def test_positions_are_sines_and_cosines() -> None:
    made = positions(7, 6)
    for place in range(7):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert float(made[place, pair]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(made[place, 3 + pair]) == pytest.approx(math.cos(angle), abs=1e-5)


def test_a_block_is_that_of_torch() -> None:
    ours = TransformerBlock(SMALL)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True)
    pairs = [
        (theirs.self_attn.in_proj_weight, ours.attend.weight),
        (theirs.self_attn.in_proj_bias, ours.attend.bias),
        (theirs.self_attn.out_proj.weight, ours.attended.weight),
        (theirs.self_attn.out_proj.bias, ours.attended.bias),
        (theirs.linear1.weight, ours.widen.weight),
        (theirs.linear1.bias, ours.widen.bias),
        (theirs.linear2.weight, ours.narrow.weight),
        (theirs.linear2.bias, ours.narrow.bias),
    ]
    with torch.no_grad():
        for one, other in pairs:
            one.copy_(other)
    frames = torch.randn(3, 9, 16)
    seen = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    expected = theirs(frames, src_key_padding_mask=~seen)
    torch.testing.assert_close(
        ours(frames, seen[:, :, None].float())[seen], expected[seen], atol=1e-5, rtol=1e-5
    )


def test_frames_look_at_the_whole_utterance_and_at_their_place() -> None:
    encoder = Mockingjay(SMALL).eval()
    features = torch.randn(1, 40, 20).requires_grad_()
    encoder(features, torch.tensor([40])).values[0, 3, 0].backward()
    assert features.grad is not None
    assert (features.grad[0].abs().sum(1) > 0).all()
    repeated = encoder(torch.ones(1, 40, 20), torch.tensor([40])).values[0]
    assert (repeated[0] - repeated[5]).abs().max() > 1e-3


def saved_bytes(frames: int) -> int:
    """Bytes that a training step keeps for its way back."""
    encoder, kept = Mockingjay(SMALL).train(), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(torch.randn(2, frames, 20), torch.tensor([frames, frames // 2]))
    return sum(kept.values())


def test_memory_grows_with_the_frames_and_not_with_their_square() -> None:
    one, two, three = (saved_bytes(frames) for frames in (500, 1000, 1500))
    assert three - two == pytest.approx(two - one, rel=0.02)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="width 128 is no multiple of heads 5"):
        build(MockingjaySettings, {"heads": 5})


def test_the_published_shape_has_as_many_weights_as_published() -> None:
    base = MockingjaySettings(
        width=768, blocks=3, heads=12, feed_forward=3072, front_end="fbank", deltas=2, stack=1
    )
    with torch.device("meta"):
        encoder = Mockingjay(base)
    assert encoder.front_end.dim == 240
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(21.4e6, rel=0.01)
