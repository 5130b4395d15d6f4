"""A time-delay network on stacked log-mel frames: the cheapest encoder, for pretraining on two cores."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.features import FrontEnd
from affetto.models.context import Context, all_layers
from affetto.models.encoder import (
    Encoder,
    EncoderShape,
    Frames,
    frame_mask,
    normalise_logmel,
    stacked,
    stacked_centre_seconds,
)


class TdnnSettings(EncoderShape):
    """Shape of :class:`Tdnn`."""

    name: Literal["tdnn"] = "tdnn"
    width: int = Field(160, ge=8)  # D, channels of the blocks
    blocks: int = Field(4, ge=1)
    bins: int = Field(80, ge=8)  # mel bands
    stack: int = Field(8, ge=1)  # log-mel frames joined to one frame of the network
    drop_path: float = Field(0.1, ge=0, lt=1)  # share of utterances for which a block is skipped in training


class Tdnn(Encoder):
    """Stacked log-mel frames through a linear layer and residual blocks over time."""

    def __init__(self, settings: TdnnSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or TdnnSettings()
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins)
        self.hop_seconds = settings.stack * self.front_end.hop_seconds
        self.centre_seconds = stacked_centre_seconds(self.front_end, settings.stack)
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (settings.blocks + 1)
        self.input = nn.Linear(settings.stack * settings.bins, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.blocks = nn.ModuleList(
            Context(settings.width, drop_path=settings.drop_path) for _ in range(settings.blocks)
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes log-mel ``features (B, T, F)``; ``T' = ceil(T / stack)``, zeros at the end."""
        values, lengths = stacked(normalise_logmel(features), lengths, self.settings.stack)
        mask = frame_mask(lengths, values.shape[1])
        frames = F.gelu(self.input_norm(self.input(values))) * mask
        return Frames(all_layers(self.blocks, frames, mask), lengths)
