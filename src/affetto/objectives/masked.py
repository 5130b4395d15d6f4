"""Rebuilding frames of whole utterances, with emotion intensity as guide, input or target (Liu & Ma 2024)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.masking import MaskSettings, corrupt, fitted, hidden_frames
from affetto.models.encoder import Encoder, Frames, feature_scale, network_scale
from affetto.models.masked_encoders import Npc
from affetto.objectives.objective import Objective, feature_frames, mean_distance
from affetto.objectives.tasks import chooses_frames


class MockingjayObjectiveSettings(Settings):
    """What Mockingjay does with emotion intensity."""

    intensity_input: bool = False  # whether it is added to every column of the input, hidden where frames are
    intensity_loss: bool = False  # whether a second head rebuilds it: hidden and alone; with features in NPC


class NpcObjectiveSettings(MockingjayObjectiveSettings):
    """What NPC does with emotion intensity, and what it predicts where."""

    frames: Literal["all", "chosen"] = "all"  # that carry the loss: all, as published, or those of masking
    quantise: bool = False  # whether frames pass a vector quantiser before they are rebuilt, as published


class MaskedObjective(Objective):
    """What Mockingjay and NPC share.

    A batch holds waveforms ``(B, S)``, or features ``(B, T, F)`` of the encoder's own front end. Its column
    ``guide`` ``(B, T')`` is needed where ``masking`` names a curve, ``intensity`` ``(B, T')`` where a setting
    asks for it; both have one number a feature frame, and zeros at the end. Besides the loss of its name, an
    objective has ``intensity``, of weight 1, and ``hidden_share``, of weight 0, the share of chosen frames.
    """

    def __init__(
        self, name: str, encoder: Encoder, settings: MockingjayObjectiveSettings, masking: MaskSettings
    ) -> None:
        super().__init__()
        self.encoder, self.settings, self.masking = encoder, settings, masking
        self.chooses = chooses_frames(settings)
        self.weights = {name: 1.0}
        if settings.intensity_loss:
            self.weights["intensity"] = 1.0
        if self.chooses:
            self.weights["hidden_share"] = 0.0

    def read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Returns what is rebuilt ``(B, T, F)``, lengths ``(B,)``, guide and intensity ``(B, T)`` or None."""
        values, lengths, columns = batch.values, batch.lengths, batch.columns
        if values.ndim == 2:
            values, lengths = self.encoder.front_end(values, lengths)
        frames, asked = values.shape[1], self.settings.intensity_input or self.settings.intensity_loss
        guide = fitted(columns["guide"], lengths, frames) if "guide" in columns else None
        intensity = fitted(columns["intensity"], lengths, frames) if asked else None
        return network_scale(values, self.encoder.front_end), lengths, guide, intensity

    def _encode(self, values: Tensor, lengths: Tensor) -> Tensor:
        encoded: Frames = self.encoder(feature_scale(values, self.encoder.front_end), lengths)
        return encoded.values


class MockingjayObjective(MaskedObjective):
    """Mean distance between hidden frames and what a head predicts from the encoder's frames there.

    Liu et al. (2020) as s3prl trains it. Liu & Ma (2024) choose frames by emotion intensity, add it to the
    input, and rebuild it too. Any encoder of spectra will do.
    """

    def __init__(
        self, encoder: Encoder, settings: MockingjayObjectiveSettings, masking: MaskSettings
    ) -> None:
        super().__init__("mockingjay", encoder, settings, masking)
        stack = feature_frames(encoder)
        self.head = _rebuilding_head(encoder.dim, stack * encoder.front_end.dim)
        if settings.intensity_loss:
            self.intensity_head = _rebuilding_head(encoder.dim, stack)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was hidden."""
        target, lengths, guide, intensity = self.read(batch)
        hidden = hidden_frames(lengths, target.shape[1], self.masking, guide)
        masked, curve = corrupt(target, hidden, lengths, None, intensity)
        losses = {}
        if curve is not None and intensity is not None:
            level = curve[:, :, None]
            if self.settings.intensity_loss:
                rebuilt = self.intensity_head(self._encode(level.expand_as(target), lengths))
                losses["intensity"] = mean_distance(rebuilt, intensity[:, :, None], hidden)
            if self.settings.intensity_input:
                masked = masked + level
        losses["mockingjay"] = mean_distance(self.head(self._encode(masked, lengths)), target, hidden)
        losses["hidden_share"] = hidden.sum() / lengths.sum()
        return losses


def _rebuilding_head(dim: int, columns: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, columns))


class NpcObjective(MaskedObjective):
    """Mean distance between frames and what is predicted from their neighbours (Liu et al. 2021).

    All frames carry the loss, since the weights hide the frame itself, or those that a mask chooses: how Liu
    & Ma (2024) guide NPC by intensity is not published.
    """

    def __init__(self, encoder: Npc, settings: NpcObjectiveSettings, masking: MaskSettings) -> None:
        if not isinstance(encoder, Npc):
            name = encoder.settings.name
            raise ConfigError(f"npc trains the encoder npc, whose mask is in its weights, not {name}")
        super().__init__("npc", encoder, settings, masking)
        self.quantiser = Quantiser(encoder.dim) if settings.quantise else nn.Identity()
        dim = Quantiser.dim if settings.quantise else encoder.dim
        columns = feature_frames(encoder) * encoder.front_end.dim
        self.head = nn.Linear(dim, columns)
        if settings.intensity_loss:
            self.intensity_head = nn.Linear(dim, columns)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was chosen."""
        target, lengths, guide, intensity = self.read(batch)
        summed = target if intensity is None else target + intensity[:, :, None]
        carrying = torch.arange(target.shape[1], device=lengths.device) < lengths[:, None]
        losses = {}
        if self.chooses:
            carrying = hidden_frames(lengths, target.shape[1], self.masking, guide)
            losses["hidden_share"] = carrying.sum() / lengths.sum()
        values = self.quantiser(self._encode(summed if self.settings.intensity_input else target, lengths))
        losses["npc"] = mean_distance(self.head(values), target, carrying)
        if self.settings.intensity_loss:
            losses["intensity"] = mean_distance(self.intensity_head(values), summed, carrying)
        return losses


class Quantiser(nn.Module):
    """Frames ``(B, T, width)`` as four vectors, each one of 64 that are learned: ``(B, T, 4 * 128)``.

    Hard Gumbel softmax in training, else the likeliest; Liu et al. (2021), section 2.3, sizes of their code.
    """

    groups, codes, code_dim = 4, 64, 128
    dim = groups * code_dim

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choose = nn.Linear(width, self.groups * self.codes)
        self.vectors = nn.Parameter(torch.randn(self.groups, self.codes, self.code_dim) / self.code_dim**0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """Returns the chosen vectors."""
        scores = self.choose(frames).unflatten(2, (self.groups, self.codes)).float()
        if self.training:  # draws from torch's own state, which checkpoints keep
            shares = F.gumbel_softmax(scores, tau=1.0, hard=True)
        else:
            shares = F.one_hot(scores.argmax(3), self.codes).to(scores)
        return torch.einsum("btgk,gkd->btgd", shares, self.vectors).flatten(2)
