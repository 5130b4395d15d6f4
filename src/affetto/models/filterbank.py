"""The spectrum itself as an encoder: the floor that a network must beat."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from affetto.features import FrontEnd
from affetto.models.encoder import Encoder, EncoderShape, Frames, frame_mask, network_scale


class FilterbankSettings(EncoderShape):
    """Shape of :class:`Filterbank`."""

    name: Literal["filterbank"] = "filterbank"
    bins: int = Field(80, ge=8)  # mel bands


class Filterbank(Encoder):
    """Log-mel frames as they are; nothing is learned."""

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
        mask = frame_mask(lengths, features.shape[1])
        return Frames((network_scale(features, self.front_end) * mask,), lengths)
