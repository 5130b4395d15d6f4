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
from affetto.objectives.objective import (
    Objective,
    encoder_name,
    feature_frames,
    mean_distance,
    new_generator,
    unstacked,
)


class MaskedSettings(Settings):
    """What is done with emotion intensity.

    Attributes:
        intensity_input: whether it is added to every column of the input, hidden where frames are.
        intensity_loss: whether a second head rebuilds it: from itself alone, hidden, in Mockingjay; together
            with the features in NPC.
    """

    intensity_input: bool = False
    intensity_loss: bool = False


class MockingjayObjectiveSettings(MaskedSettings):
    """What Mockingjay does with emotion intensity."""


class NpcObjectiveSettings(MaskedSettings):
    """What NPC predicts, and where.

    Attributes:
        frames: which frames carry the loss: ``"all"``, as published, or those that ``masking`` chose.
        quantise: whether frames pass a vector quantiser before they are rebuilt, as published.
    """

    frames: Literal["all", "chosen"] = "all"
    quantise: bool = False


class MaskedObjective(Objective):
    """What Mockingjay and NPC share.

    A batch holds waveforms ``(B, S)``, or features ``(B, T, F)`` of the encoder's own front end. Its column
    ``guide`` ``(B, T')`` is needed where ``masking`` names a curve, ``intensity`` ``(B, T')`` where a setting
    asks for it; both have one number a feature frame, and zeros at the end. Besides the loss of its name, an
    objective has ``intensity``, of weight 1, and ``hidden_share``, of weight 0, the share of chosen frames.
    """

    def __init__(self, name: str, encoder: Encoder, settings: MaskedSettings, masking: MaskSettings) -> None:
        super().__init__()
        self.encoder, self.settings, self.masking = encoder, settings, masking
        self.stack = feature_frames(encoder)
        self.weights = {name: 1.0} | ({"intensity": 1.0} if settings.intensity_loss else {})

    def read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Returns what is rebuilt ``(B, T, F)``, lengths ``(B,)``, guide and intensity ``(B, T)`` or None."""
        values, lengths, columns = batch.values, batch.lengths, batch.columns
        if values.ndim == 2:
            values, lengths = self.encoder.front_end(values, lengths)
        frames, asked = values.shape[1], self.settings.intensity_input or self.settings.intensity_loss
        guide = fitted(columns["guide"], lengths, frames) if "guide" in columns else None
        intensity = fitted(columns["intensity"], lengths, frames) if asked else None
        return network_scale(values, self.encoder.front_end), lengths, guide, intensity

    def encode(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Returns the encoder's frames of features in the scale of networks."""
        encoded: Frames = self.encoder(feature_scale(values, self.encoder.front_end), lengths)
        return encoded.values

    def distance(self, rebuilt: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
        """Returns the mean distance at chosen frames, of which each rebuilt one holds several."""
        return mean_distance(unstacked(rebuilt, self.stack), target, chosen)


class MockingjayObjective(MaskedObjective):
    """Mean distance between hidden frames and what a head predicts from the encoder's frames there.

    Liu et al. (2020) as s3prl trains it. Liu & Ma (2024) choose frames by emotion intensity, add it to the
    input, and rebuild it too. Any encoder of spectra will do.
    """

    def __init__(
        self, encoder: Encoder, settings: MockingjayObjectiveSettings, masking: MaskSettings
    ) -> None:
        super().__init__("mockingjay", encoder, settings, masking)
        self.weights["hidden_share"] = 0.0
        self.head = rebuilding_head(encoder.dim, self.stack * encoder.front_end.dim)
        if settings.intensity_loss:
            self.intensity_head = rebuilding_head(encoder.dim, self.stack)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was hidden."""
        generator = new_generator()
        target, lengths, guide, intensity = self.read(batch)
        hidden = hidden_frames(lengths, target.shape[1], self.masking, guide, generator)
        masked, curve = corrupt(target, hidden, lengths, generator, intensity)
        losses = {}
        if curve is not None and intensity is not None:
            level = curve[:, :, None]
            if self.settings.intensity_loss:
                rebuilt = self.intensity_head(self.encode(level.expand_as(target), lengths))
                losses["intensity"] = self.distance(rebuilt, intensity[:, :, None], hidden)
            if self.settings.intensity_input:
                masked = masked + level
        losses["mockingjay"] = self.distance(self.head(self.encode(masked, lengths)), target, hidden)
        losses["hidden_share"] = hidden.sum() / lengths.sum()
        return losses


def rebuilding_head(dim: int, columns: int) -> nn.Sequential:
    """Returns a head of Mockingjay: linear, GELU, layer norm, linear."""
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, columns))


class NpcObjective(MaskedObjective):
    """Mean distance between frames and what is predicted from their neighbours (Liu et al. 2021).

    All frames carry the loss, since the weights hide the frame itself, or those that a mask chooses: how Liu
    & Ma (2024) guide NPC by intensity is not published.
    """

    def __init__(self, encoder: Npc, settings: NpcObjectiveSettings, masking: MaskSettings) -> None:
        if not isinstance(encoder, Npc):
            name = encoder_name(encoder)
            raise ConfigError(f"npc trains the encoder npc, whose mask is in its weights, not {name}")
        super().__init__("npc", encoder, settings, masking)
        self.chooses = settings.frames == "chosen"
        self.weights |= {"hidden_share": 0.0} if self.chooses else {}
        self.quantiser = Quantiser(encoder.dim) if settings.quantise else nn.Identity()
        dim, columns = Quantiser.dim if settings.quantise else encoder.dim, encoder.front_end.dim
        self.head = nn.Linear(dim, self.stack * columns)
        if settings.intensity_loss:
            self.intensity_head = nn.Linear(dim, self.stack * columns)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was chosen."""
        target, lengths, guide, intensity = self.read(batch)
        summed = target if intensity is None else target + intensity[:, :, None]
        carrying = torch.arange(target.shape[1], device=lengths.device) < lengths[:, None]
        losses = {}
        if self.chooses:
            carrying = hidden_frames(lengths, target.shape[1], self.masking, guide, new_generator())
            losses["hidden_share"] = carrying.sum() / lengths.sum()
        values = self.quantiser(self.encode(summed if self.settings.intensity_input else target, lengths))
        losses["npc"] = self.distance(self.head(values), target, carrying)
        if self.settings.intensity_loss:
            losses["intensity"] = self.distance(self.intensity_head(values), summed, carrying)
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
