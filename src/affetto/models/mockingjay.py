"""Mockingjay's encoder (Liu et al., ICASSP 2020): a Transformer over spectral frames."""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.features import FrontEnd
from affetto.models.encoder import (
    Encoder,
    EncoderShape,
    Frames,
    frame_mask,
    network_scale,
    stacked,
    stacked_centre_seconds,
)


class MockingjaySettings(EncoderShape):
    """Shape of :class:`Mockingjay`; the default trains on two cores.

    The published base has ``width=768, blocks=3, heads=12, feed_forward=3072, front_end="fbank", deltas=2,
    stack=1`` and ``attention_dropout=0.1``.
    """

    name: Literal["mockingjay"] = "mockingjay"
    width: int = Field(128, ge=8, multiple_of=2)  # D, of every block
    blocks: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)  # of the attention; they divide the width
    feed_forward: int = Field(512, ge=8)  # hidden width of a block's two pointwise layers
    dropout: float = Field(0.1, ge=0, lt=1)  # of what each part of a block adds
    # Of the attention's weights. On a CPU torch has no fused attention with dropout: memory then grows with
    # the square of the frames.
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    front_end: Literal["logmel", "fbank"] = "logmel"  # "fbank" is Kaldi's
    bins: int = Field(80, ge=8)  # mel bands
    deltas: int = Field(0, ge=0, le=3)  # orders of deltas that follow them
    cmvn: bool = True  # whether columns are normalised over each utterance
    stack: int = Field(4, ge=1)  # feature frames joined to one frame of the network

    @model_validator(mode="after")
    def _fits(self) -> "MockingjaySettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class Mockingjay(Encoder):
    """Stacked frames, sinusoidal positions, and Transformer blocks with the norm after each sum.

    Layers are the input, after its norm, and the output of every block, all of one width.
    """

    def __init__(self, settings: MockingjaySettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or MockingjaySettings()
        self.front_end = FrontEnd(
            kind=settings.front_end, bins=settings.bins, deltas=settings.deltas, cmvn=settings.cmvn
        )
        self.hop_seconds = settings.stack * self.front_end.hop_seconds
        self.centre_seconds = stacked_centre_seconds(self.front_end, settings.stack)
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (settings.blocks + 1)
        self.input = nn.Linear(settings.stack * self.front_end.dim, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.input_dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(settings) for _ in range(settings.blocks))

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes ``features (B, T, F)``; ``T' = ceil(T / stack)``, zeros at the end."""
        values, lengths = stacked(network_scale(features, self.front_end), lengths, self.settings.stack)
        mask = frame_mask(lengths, values.shape[1])
        projected = self.input(values)
        frames = self.input_norm(projected + positions(values.shape[1], self.dim).to(projected))
        frames = self.input_dropout(frames) * mask
        seen = mask.squeeze(2).bool()[:, None, None]
        layers = [frames]
        for block in self.blocks:
            frames = block(frames, seen) * mask
            layers.append(frames)
        return Frames(tuple(layers), lengths)


class TransformerBlock(nn.Module):
    """Self-attention and two pointwise layers, each added to its input and normalised."""

    # Not nn.TransformerEncoderLayer: its evaluation mode holds all weights of the attention at once, so that
    # memory grows with the square of the frames.

    def __init__(self, settings: MockingjaySettings) -> None:
        super().__init__()
        width = settings.width
        self.heads, self.attention_dropout = settings.heads, settings.attention_dropout
        self.attend = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, settings.feed_forward)
        self.narrow = nn.Linear(settings.feed_forward, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, frames: Tensor, seen: Tensor) -> Tensor:
        """Maps ``frames (B, T, D)`` to the same shape; attends to those that are ``seen (B, 1, 1, T)``."""
        # (B, T, 3 D) to three times (B, heads, T, D / heads)
        query, key, value = self.attend(frames).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        share = self.attention_dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=share)
        attended = self.attended(heads.transpose(1, 2).flatten(2))
        frames = self.attention_norm(frames + self.dropout(attended))
        hidden = self.narrow(F.gelu(self.widen(frames)))
        return torch.as_tensor(self.norm(frames + self.dropout(hidden)))


def positions(frames: int, width: int) -> Tensor:
    """Returns sines and cosines of each place, ``(T, D)`` (Vaswani et al. 2017, section 3.5)."""
    speeds = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(frames)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=1)
