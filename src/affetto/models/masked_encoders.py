"""Encoders of spectral frames that predicting what is masked pretrains: Mockingjay and NPC."""

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.features import FrontEnd
from affetto.models.encoder import EncoderShape, Frames, Stacking
from affetto.models.layers import all_layers


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
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class Mockingjay(Stacking):
    """A Transformer (Liu et al., ICASSP 2020): sinusoidal positions, and blocks with the norm after each sum.

    Layers are the input, after its norm, and the output of every block, all of one width.
    """

    def __init__(self, settings: MockingjaySettings | None = None) -> None:
        settings = settings or MockingjaySettings()
        front_end = FrontEnd(
            kind=settings.front_end, bins=settings.bins, deltas=settings.deltas, cmvn=settings.cmvn
        )
        super().__init__(front_end, settings.stack)
        self.settings = settings
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (settings.blocks + 1)
        self.input = nn.Linear(settings.stack * front_end.dim, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.input_dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(settings) for _ in range(settings.blocks))

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes ``features (B, T, F)``; ``T' = ceil(T / stack)``, zeros at the end."""
        values, lengths, mask = self.stacks(features, lengths)
        projected = self.input(values)
        frames = self.input_norm(projected + positions(values.shape[1], self.dim, values.device))
        frames = self.input_dropout(frames) * mask
        return Frames(all_layers(self.blocks, frames, mask), lengths)


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

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Maps ``frames (B, T, D)`` to the same shape, zero where ``mask (B, T, 1)`` is zero."""
        seen = mask.squeeze(2).bool()[:, None, None]  # (B, 1, 1, T)
        # (B, T, 3 D) to three times (B, heads, T, D / heads)
        query, key, value = self.attend(frames).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        share = self.attention_dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=share)
        attended = self.attended(heads.transpose(1, 2).flatten(2))
        frames = self.attention_norm(frames + self.dropout(attended))
        hidden = self.narrow(F.gelu(self.widen(frames)))
        return torch.as_tensor(self.norm(frames + self.dropout(hidden)) * mask)


def positions(frames: int, width: int, device: torch.device | None = None) -> Tensor:
    """Returns sines and cosines of each place, ``(T, D)`` (Vaswani et al. 2017, section 3.5)."""
    speeds = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(frames, device=device)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class NpcSettings(EncoderShape):
    """Shape of :class:`Npc`; the default trains on two cores. Published: ``width=512, front_end="fbank"``."""

    name: Literal["npc"] = "npc"
    width: int = Field(96, ge=8)  # D, channels of all layers
    blocks: int = Field(4, ge=1)
    kernel: int = Field(15, ge=3)  # frames from the first to the last that a masked convolution sees
    hidden: int = Field(5, ge=1)  # input frames around each output frame that never reach it
    dropout: float = Field(0.1, ge=0, lt=1)  # in each block
    front_end: Literal["logmel", "fbank"] = "logmel"  # "fbank" is Kaldi's
    bins: int = Field(80, ge=8)  # mel bands
    cmvn: bool = True  # whether columns are normalised over each utterance
    stack: int = Field(1, ge=1)  # feature frames joined to one frame; kernel and hidden count these

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel % 2 == 0 or self.hidden % 2 == 0:
            raise ValueError(f"kernel {self.kernel} and hidden {self.hidden} must be odd: they have a centre")
        widest = self.hidden + 2 * self.blocks
        if self.kernel < widest + 2:
            raise ValueError(
                f"kernel {self.kernel} is too small: block {self.blocks} must hide {widest} frames of it, so "
                f"that hidden {self.hidden} stay unseen; take kernel {widest + 2} or more, or hide less"
            )
        return self


class Npc(Stacking):
    """Non-autoregressive predictive coding (Liu, Chung & Glass, Interspeech 2021): context, not the centre.

    Convolutional blocks, each followed by a convolution whose centre is left out, and the sum of these.
    A block sees one frame more to each side, so its convolution leaves out two frames more than the one
    before: what is hidden at the input stays ``hidden`` wide. Layers are the blocks, the masked convolutions
    and their sum, all of one width.

    The published blocks have batch norm. Here it is a layer norm over the channels of each frame: the rest of
    the batch must not change an answer, and a norm over time would show each frame to its neighbours.
    """

    def __init__(self, settings: NpcSettings | None = None) -> None:
        settings = settings or NpcSettings()
        # No deltas: those of the neighbours depend on the frame that is hidden.
        front_end = FrontEnd(kind=settings.front_end, bins=settings.bins, cmvn=settings.cmvn)
        super().__init__(front_end, settings.stack)
        self.settings = settings
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (2 * settings.blocks + 1)
        sizes = [settings.stack * front_end.dim] + [settings.width] * (settings.blocks - 1)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(size, settings.width, settings.dropout, residual=number > 0)
            for number, size in enumerate(sizes)
        )
        self.masked = nn.ModuleList(
            MaskedConvolution(settings.width, settings.kernel, settings.hidden + 2 * number)
            for number in range(1, settings.blocks + 1)
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes ``features (B, T, F)``; ``T' = ceil(T / stack)``, zeros at the end."""
        frames, lengths, mask = self.stacks(features, lengths)
        blocks, masked = [], []
        for block, convolution in zip(self.blocks, self.masked, strict=True):
            frames = block(frames) * mask
            blocks.append(frames)
            masked.append(torch.tanh(convolution(frames)) * mask)
        return Frames((*blocks, *masked, torch.stack(masked).sum(0)), lengths)


class ConvolutionBlock(nn.Module):
    """Convolution over three frames, norm, ReLU; pointwise layer, norm, dropout; the input added; ReLU."""

    def __init__(self, size: int, width: int, dropout: float, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.over_time = nn.Conv1d(size, width, 3, padding=1)
        self.over_time_norm = nn.LayerNorm(width)
        self.pointwise = nn.Linear(width, width)
        self.pointwise_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``frames (B, T, size)``, zero past the end of each, to ``(B, T, width)``."""
        hidden = self.over_time(frames.transpose(1, 2)).transpose(1, 2)
        hidden = self.pointwise(F.relu(self.over_time_norm(hidden)))
        hidden = self.dropout(self.pointwise_norm(hidden))
        return F.relu(hidden + frames if self.residual else hidden)


class MaskedConvolution(nn.Module):
    """A convolution over time of ``kernel`` taps, of which the ``hidden`` innermost ones do not exist."""

    def __init__(self, width: int, kernel: int, hidden: int) -> None:
        super().__init__()
        self.kernel, taps = kernel, (kernel - hidden) // 2  # to each side
        bound = 1 / math.sqrt(2 * taps * width)  # as torch begins a convolution of as many taps
        # (D out, D in, taps), outermost tap first in ``before`` and last in ``after``
        self.before = nn.Parameter(torch.empty(width, width, taps).uniform_(-bound, bound))
        self.after = nn.Parameter(torch.empty(width, width, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``frames (B, T, D)``, zero past the end of each, to the same shape."""
        reach, taps = self.kernel // 2, self.before.shape[2]
        padded = F.pad(frames.transpose(1, 2), (reach, reach))
        size = frames.shape[1] + taps - 1
        before = F.conv1d(padded[:, :, :size], self.before)
        after = F.conv1d(padded[:, :, -size:], self.after)
        return (before + after).transpose(1, 2) + self.bias
