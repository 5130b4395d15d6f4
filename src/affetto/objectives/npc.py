"""NPC: predicting frames from their neighbours, with emotion intensity after Liu & Ma (2024)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.masking import MaskSettings, hidden_frames
from affetto.models.encoder import feature_scale, network_scale
from affetto.models.npc import Npc
from affetto.objectives.objective import (
    Objective,
    encoder_name,
    feature_frames,
    mean_distance,
    new_generator,
    spectra_and_curves,
    unstacked,
)


class NpcObjectiveSettings(Settings):
    """What NPC predicts, and where.

    Attributes:
        frames: which frames carry the loss: ``"all"``, as published, or those that ``masking`` chose.
        quantise: whether frames pass a vector quantiser before they are rebuilt, as published.
        intensity_input: whether emotion intensity is added to every column of the input.
        intensity_loss: whether a second head rebuilds the features plus the intensity.
    """

    frames: Literal["all", "chosen"] = "all"
    quantise: bool = False
    intensity_input: bool = False
    intensity_loss: bool = False


class NpcObjective(Objective):
    """Mean distance between frames and what is predicted from their neighbours (Liu et al. 2021).

    All frames carry the loss, since the weights hide the frame itself, or those that a mask chooses: how Liu
    & Ma (2024) guide NPC by intensity is not published. Their second loss is L1 on features plus intensity,
    with weight 1. Losses are named ``npc`` and ``intensity``; ``hidden_share``, of weight 0, is the share of
    chosen frames. A batch is that of :class:`affetto.objectives.mockingjay.MockingjayObjective`.
    """

    def __init__(self, encoder: Npc, settings: NpcObjectiveSettings, masking: MaskSettings) -> None:
        super().__init__()
        if not isinstance(encoder, Npc):
            name = encoder_name(encoder)
            raise ConfigError(f"npc trains the encoder npc, whose mask is in its weights, not {name}")
        self.encoder, self.settings, self.masking = encoder, settings, masking
        self.stack = feature_frames(encoder)
        columns = self.stack * encoder.front_end.dim
        self.weights = {"npc": 1.0}
        self.quantiser = Quantiser(encoder.dim) if settings.quantise else nn.Identity()
        rebuilt_from = Quantiser.dim if settings.quantise else encoder.dim
        self.head = nn.Linear(rebuilt_from, columns)
        if settings.frames == "chosen":
            self.weights["hidden_share"] = 0.0
        if settings.intensity_loss:
            self.weights["intensity"] = 1.0
            self.intensity_head = nn.Linear(rebuilt_from, columns)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was chosen."""
        front_end = self.encoder.front_end
        asked = self.settings.intensity_input or self.settings.intensity_loss
        features, lengths, guide, intensity = spectra_and_curves(batch, front_end, asked)
        frames = features.shape[1]
        target = network_scale(features, front_end)
        summed = target if intensity is None else target + intensity[:, :, None]
        read = summed if self.settings.intensity_input else target
        carrying = torch.arange(frames, device=lengths.device) < lengths[:, None]
        losses = {}
        if self.settings.frames == "chosen":
            carrying = hidden_frames(lengths, frames, self.masking, guide, new_generator())
            losses["hidden_share"] = carrying.sum() / lengths.sum()
        encoded = self.encoder(feature_scale(read, front_end), lengths)
        values = self.quantiser(encoded.values)
        losses["npc"] = mean_distance(unstacked(self.head(values), self.stack), target, carrying)
        if self.settings.intensity_loss:
            rebuilt = unstacked(self.intensity_head(values), self.stack)
            losses["intensity"] = mean_distance(rebuilt, summed, carrying)
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
