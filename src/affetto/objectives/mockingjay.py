"""Mockingjay: rebuilding hidden frames, with emotion intensity as input or target after Liu & Ma (2024)."""

from torch import Tensor, nn

from affetto.config import Settings
from affetto.data import Batch
from affetto.masking import MaskSettings, corrupt, hidden_frames
from affetto.models.encoder import Encoder, feature_scale, network_scale
from affetto.objectives.objective import (
    Objective,
    feature_frames,
    mean_distance,
    new_generator,
    spectra_and_curves,
    unstacked,
)


class MockingjayObjectiveSettings(Settings):
    """What Mockingjay does besides rebuilding hidden frames.

    Attributes:
        intensity_input: whether emotion intensity, hidden where the frames are, is added to the input.
        intensity_loss: whether the encoder also reads the hidden intensity alone, and a second head rebuilds
            it.
    """

    intensity_input: bool = False
    intensity_loss: bool = False


class MockingjayObjective(Objective):
    """Mean distance between hidden frames and what a head predicts from the encoder's frames there.

    Liu et al. (2020) as s3prl trains it. Liu & Ma (2024) choose frames by emotion intensity, add it to the
    input, and rebuild it too, all with weight 1. Losses are named ``mockingjay`` and ``intensity``;
    ``hidden_share``, of weight 0, is the share of frames that was hidden.

    A batch holds waveforms ``(B, S)``, or features ``(B, T, F)`` of the encoder's own front end. Its column
    ``guide`` ``(B, T')`` is needed where ``masking`` names a curve, ``intensity`` ``(B, T')`` where a setting
    asks for it; both have one number a feature frame, and zeros at the end.
    """

    def __init__(
        self, encoder: Encoder, settings: MockingjayObjectiveSettings, masking: MaskSettings
    ) -> None:
        super().__init__()
        self.encoder, self.settings, self.masking = encoder, settings, masking
        stack = feature_frames(encoder)
        self.weights = {"mockingjay": 1.0, "hidden_share": 0.0}
        self.head = RebuildingHead(encoder.dim, encoder.front_end.dim, stack)
        if settings.intensity_loss:
            self.weights["intensity"] = 1.0
            self.intensity_head = RebuildingHead(encoder.dim, 1, stack)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was hidden."""
        front_end, generator = self.encoder.front_end, new_generator()
        asked = self.settings.intensity_input or self.settings.intensity_loss
        features, lengths, guide, intensity = spectra_and_curves(batch, front_end, asked)
        hidden = hidden_frames(lengths, features.shape[1], self.masking, guide, generator)
        target = network_scale(features, front_end)
        masked, curve = corrupt(target, hidden, lengths, generator, intensity)
        losses = {}
        if curve is not None and intensity is not None:
            level = curve[:, :, None]
            if self.settings.intensity_loss:
                encoded = self.encoder(feature_scale(level.expand_as(target), front_end), lengths)
                rebuilt = self.intensity_head(encoded.values)
                losses["intensity"] = mean_distance(rebuilt, intensity[:, :, None], hidden)
            if self.settings.intensity_input:
                masked = masked + level
        encoded = self.encoder(feature_scale(masked, front_end), lengths)
        losses["mockingjay"] = mean_distance(self.head(encoded.values), target, hidden)
        losses["hidden_share"] = hidden.sum() / lengths.sum()
        return losses


class RebuildingHead(nn.Module):
    """Linear, GELU, layer norm, linear: from each of the encoder's frames to its ``stack`` feature frames."""

    def __init__(self, dim: int, columns: int, stack: int) -> None:
        super().__init__()
        self.stack = stack
        self.layers = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, stack * columns)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``(B, T', D)`` to ``(B, stack T', columns)``."""
        return unstacked(self.layers(frames), self.stack)
