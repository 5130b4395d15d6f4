"""An encoder of your own: its settings, its network, and one row of the registry.

    python examples/own_encoder.py COMMAND ...

is the affetto command with one more encoder, ``--encoder linear``: pretrain, finetune, embed and the others
take it. In the package the file would be in ``affetto/models/``, the row in ``affetto/models/encoders.json``.
"""

from typing import Literal

from torch import Tensor, nn

from affetto.__main__ import main
from affetto.features import FrontEnd
from affetto.models.encoder import Encoder, EncoderShape, Frames, frame_mask, normalise_logmel
from affetto.models.registry import ENCODERS, Named

ENCODERS["linear"] = Named("a linear layer on every log-mel frame", "own_encoder:Linear")


class LinearSettings(EncoderShape):
    """Shape of :class:`Linear`."""

    name: Literal["linear"] = "linear"
    width: int = 32


class Linear(Encoder):
    """A linear layer on every log-mel frame."""

    def __init__(self, settings: LinearSettings) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = FrontEnd(kind="logmel", bins=40)
        self.hop_seconds = self.front_end.hop_seconds
        self.dim, self.layer_dims = settings.width, (settings.width,)
        self.linear = nn.Linear(40, settings.width)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes ``features (B, T, 40)``; what lies past each length must be zero."""
        mask = frame_mask(lengths, features.shape[1])
        return Frames((self.linear(normalise_logmel(features)) * mask,), lengths)


if __name__ == "__main__":
    main()
