"""How strong an emotion is, frame by frame: convolutions and a recurrent layer on stacked log-mel frames."""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affetto.config import Settings
from affetto.features import FrontEnd
from affetto.models.context import Context
from affetto.models.encoder import frame_mask, normalise_logmel
from affetto.models.pooling import MeanPooling


class StrengthSettings(Settings):
    """Shape of :class:`StrengthNet`.

    Attributes:
        bins: mel bands of the front end.
        stack: log-mel frames of 10 ms laid side by side to one frame of the network.
        width: channels of the convolutions.
        blocks: residual blocks over time.
        hidden: units of the recurrent layer, in each direction.
        dropout: share of the frames' channels hidden in training.
    """

    bins: int = Field(80, ge=8)
    stack: int = Field(4, ge=1)
    width: int = Field(96, ge=4)
    blocks: int = Field(3, ge=0)
    hidden: int = Field(64, ge=2)
    dropout: float = Field(0.2, ge=0, lt=1)


class Strengths(NamedTuple):
    """What :class:`StrengthNet` says.

    Attributes:
        frames: strength of each frame, 0 to 1, ``(B, T)``; zero past each length.
        lengths: valid frames, ``(B,)``.
        utterances: mean over each utterance's frames, ``(B,)``.
        emotions: scores of the classes, ``(B, K)``.
    """

    frames: Tensor
    lengths: Tensor
    utterances: Tensor
    emotions: Tensor


class StrengthNet(nn.Module):
    """Strength of emotion, a value a frame, and the emotion of the utterance.

    After StrengthNet (Liu et al. 2022, arXiv 2206.07229, and its published code): convolutions, a recurrent
    layer in both directions, two heads. Unlike there, frames are stacked first, convolutions run over time
    alone, and strength passes a sigmoid, since its targets lie between 0 and 1; all of it to be cheap. Every
    norm looks at one frame alone, so that neither padding nor batch mates change an answer.

    Args:
        settings: the shape.
        classes: K, emotions of the second head, neutral included.
    """

    def __init__(self, settings: StrengthSettings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins)
        self.input = nn.Linear(settings.stack * settings.bins, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.blocks = nn.ModuleList(Context(settings.width) for _ in range(settings.blocks))
        self.dropout = nn.Dropout(settings.dropout)
        self.recurrent = nn.GRU(settings.width, settings.hidden, batch_first=True, bidirectional=True)
        self.pooling = MeanPooling(2 * settings.hidden)
        self.strength = nn.Linear(2 * settings.hidden, 1)
        self.emotion = nn.Linear(2 * settings.hidden, classes)

    @property
    def hop_seconds(self) -> float:
        """Step between the frames that come out."""
        return self.settings.stack * self.front_end.hop_seconds

    def forward(self, features: Tensor, lengths: Tensor) -> Strengths:
        """Reads log-mel ``features (B, T, F)`` of valid ``lengths (B,)``; ``T' = ceil(T / stack)``."""
        stack = self.settings.stack
        values = normalise_logmel(features) * frame_mask(lengths, features.shape[1])
        values = F.pad(values, (0, 0, 0, -values.shape[1] % stack))
        values = values.reshape(len(values), -1, stack * values.shape[2])
        lengths = torch.div(lengths + stack - 1, stack, rounding_mode="floor")
        mask = frame_mask(lengths, values.shape[1])
        frames = F.gelu(self.input_norm(self.input(values))) * mask
        for block in self.blocks:
            frames = block(frames, mask)
        packed = pack_padded_sequence(
            self.dropout(frames), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden = pad_packed_sequence(self.recurrent(packed)[0], True, total_length=values.shape[1])[0]
        hidden = self.dropout(hidden)
        strength = torch.sigmoid(self.strength(hidden)) * mask
        mean = strength.sum((1, 2)) / lengths
        return Strengths(strength.squeeze(2), lengths, mean, self.emotion(self.pooling(hidden, lengths)))
