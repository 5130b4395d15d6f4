"""Non-autoregressive predictive coding (Liu, Chung & Glass, Interspeech 2021): context without the centre."""

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


class NpcSettings(EncoderShape):
    """Shape of :class:`Npc`; the default trains on two cores.

    Published: ``width=512, front_end="fbank"``.
    """

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
    def _fits(self) -> "NpcSettings":
        if self.kernel % 2 == 0 or self.hidden % 2 == 0:
            raise ValueError(f"kernel {self.kernel} and hidden {self.hidden} must be odd: they have a centre")
        widest = self.hidden + 2 * self.blocks
        if self.kernel < widest + 2:
            raise ValueError(
                f"kernel {self.kernel} is too small: block {self.blocks} must hide {widest} frames of it, so "
                f"that hidden {self.hidden} stay unseen; take kernel {widest + 2} or more, or hide less"
            )
        return self


class Npc(Encoder):
    """Convolutional blocks, each followed by a convolution whose centre is left out; the sum of these.

    A block sees one frame more to each side, so its convolution leaves out two frames more than the one
    before: what is hidden at the input stays ``hidden`` wide. Layers are the blocks, the masked convolutions
    and their sum, all of one width.

    The published blocks have batch norm. Here it is a layer norm over the channels of each frame: the rest of
    the batch must not change an answer, and a norm over time would show each frame to its neighbours.
    """

    def __init__(self, settings: NpcSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or NpcSettings()
        # No deltas: those of the neighbours depend on the frame that is hidden.
        self.front_end = FrontEnd(kind=settings.front_end, bins=settings.bins, cmvn=settings.cmvn)
        self.hop_seconds = settings.stack * self.front_end.hop_seconds
        self.centre_seconds = stacked_centre_seconds(self.front_end, settings.stack)
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (2 * settings.blocks + 1)
        sizes = [settings.stack * self.front_end.dim] + [settings.width] * (settings.blocks - 1)
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
        frames, lengths = stacked(network_scale(features, self.front_end), lengths, self.settings.stack)
        mask = frame_mask(lengths, frames.shape[1])
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
