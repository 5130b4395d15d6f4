"""Small encoders: of log-mel frames, two that train from scratch on two cores, and one on fixed vectors."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.features import FrontEnd
from affetto.models.encoder import (
    Encoder,
    EncoderShape,
    Frames,
    Stacking,
    cleared,
    frame_mask,
    normalise_logmel,
)
from affetto.models.heads import Standardise
from affetto.models.layers import Context, all_layers


class CnnSettings(EncoderShape):
    """Shape of :class:`Cnn`."""

    name: Literal["cnn"] = "cnn"
    width: int = Field(160, ge=8)  # D, channels of the blocks
    blocks: int = Field(4, ge=1)  # at 25 frames a second
    bins: int = Field(80, ge=8, multiple_of=4)  # mel bands
    drop_path: float = Field(0.1, ge=0, lt=1)  # share of utterances for which a block is skipped in training


class Cnn(Encoder):
    """Log-mel frames through two strided 2-D convolutions and residual blocks over time."""

    def __init__(self, settings: CnnSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or CnnSettings()
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins)
        self.hop_seconds = 4 * self.front_end.hop_seconds
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (settings.blocks + 1)
        self.first = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.first_norm = nn.LayerNorm(16)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.second_norm = nn.LayerNorm(32)
        self.flatten = nn.Linear(32 * (settings.bins // 4), settings.width)
        self.flatten_norm = nn.LayerNorm(settings.width)
        self.blocks = _blocks(settings)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes log-mel ``features (B, T, F)``; ``T' = ceil(ceil(T / 2) / 2)``."""
        values = cleared(normalise_logmel(features), lengths).unsqueeze(1)
        for convolution, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            values = convolution(values)
            lengths = (lengths + 1) // 2  # stride 2, from the first frame on
            values = F.gelu(norm(values.movedim(1, -1))).movedim(-1, 1)
            values = values * frame_mask(lengths, values.shape[2]).unsqueeze(1)
        mask = frame_mask(lengths, values.shape[2])
        frames = F.gelu(self.flatten_norm(self.flatten(values.transpose(1, 2).flatten(2)))) * mask
        return Frames(all_layers(self.blocks, frames, mask), lengths)


class TdnnSettings(EncoderShape):
    """Shape of :class:`Tdnn`."""

    name: Literal["tdnn"] = "tdnn"
    width: int = Field(160, ge=8)  # D, channels of the blocks
    blocks: int = Field(4, ge=1)
    bins: int = Field(80, ge=8)  # mel bands
    stack: int = Field(8, ge=1)  # log-mel frames joined to one frame of the network
    drop_path: float = Field(0.1, ge=0, lt=1)  # share of utterances for which a block is skipped in training


class Tdnn(Stacking):
    """Stacked log-mel frames through a linear layer and residual blocks over time: the cheapest encoder."""

    def __init__(self, settings: TdnnSettings | None = None) -> None:
        settings = settings or TdnnSettings()
        super().__init__(FrontEnd(kind="logmel", bins=settings.bins), settings.stack)
        self.settings = settings
        self.dim = settings.width
        self.layer_dims = (settings.width,) * (settings.blocks + 1)
        self.input = nn.Linear(settings.stack * settings.bins, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.blocks = _blocks(settings)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes log-mel ``features (B, T, F)``; ``T' = ceil(T / stack)``, zeros at the end."""
        values, lengths, mask = self.stacks(features, lengths)
        frames = F.gelu(self.input_norm(self.input(values))) * mask
        return Frames(all_layers(self.blocks, frames, mask), lengths)


def _blocks(settings: CnnSettings | TdnnSettings) -> nn.ModuleList:
    return nn.ModuleList(
        Context(settings.width, drop_path=settings.drop_path) for _ in range(settings.blocks)
    )


class FilterbankSettings(EncoderShape):
    """Shape of :class:`Filterbank`."""

    name: Literal["filterbank"] = "filterbank"
    bins: int = Field(80, ge=8)  # mel bands


class Filterbank(Encoder):
    """Log-mel frames as they are; nothing is learned: the floor that a network must beat."""

    def __init__(self, settings: FilterbankSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or FilterbankSettings()
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins)
        self.hop_seconds = self.front_end.hop_seconds
        self.dim = settings.bins
        self.layer_dims = (settings.bins,)
        self.level_layers = (0,)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Returns log-mel ``features (B, T, F)`` in the scale of networks."""
        return Frames((cleared(normalise_logmel(features), lengths),), lengths)


class TopSettings(Settings):
    """Shape of :class:`Top`."""

    hidden: int = Field(512, ge=4)
    width: int = Field(256, ge=4)  # of the learned vector
    dropout: float = Field(0.5, ge=0, lt=1)  # of the dimensions that come in: what makes two views differ


class Top(Encoder):
    """Two layers on standardised vectors, one an utterance: ``(B, 1, D) -> (B, 1, width)``."""

    reads_vectors = True

    def __init__(self, dim: int, settings: TopSettings) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = FrontEnd(kind="waveform")
        self.dim, self.layer_dims = settings.width, (settings.width,)
        self.standardise = Standardise(dim)
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(dim, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, settings.width),
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Maps vectors, as utterances of one frame each."""
        return Frames((self.layers(self.standardise(features)),), lengths)
