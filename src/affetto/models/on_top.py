"""A small network on fixed vectors of utterances: what pretrain trains on top of a published encoder."""

from pydantic import Field
from torch import Tensor, nn

from affetto.config import Settings
from affetto.features import FrontEnd
from affetto.models.encoder import Encoder, Frames
from affetto.models.heads import Standardise


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
