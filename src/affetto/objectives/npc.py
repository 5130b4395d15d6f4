"""NPC: every frame from its surroundings; with emotion intensity beside them, after Liu & Ma (2024)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.masking import MaskSettings, fitted, hidden_frames
from affetto.models.encoder import feature_scale, network_scale
from affetto.models.npc import Npc
from affetto.objectives.objective import Objective, feature_frames, mean_distance, new_generator, spectra


class NpcObjectiveSettings(Settings):
    """What NPC rebuilds, and where.

    Attributes:
        frames: which frames carry the loss: ``"all"``, as published, or those that ``masking`` chose.
        wider: network frames that are hidden beside the centre, to each side, around the frames that
            ``masking`` chose; 0 as published. As many of the deepest masked convolutions see nothing there.
        quantise: whether frames pass a vector quantiser before they are rebuilt, as published.
        intensity_input: whether emotion intensity is added to every column of what the encoder reads.
        intensity_loss: whether a second head rebuilds the features plus the intensity.
    """

    frames: Literal["all", "chosen"] = "all"
    wider: int = Field(0, ge=0)
    quantise: bool = False
    intensity_input: bool = False
    intensity_loss: bool = False


class NpcObjective(Objective):
    """Mean distance between frames and what is made of their surroundings (Liu et al. 2021).

    NPC hides by its weights, and all frames carry the loss. How Liu & Ma (2024) let emotion intensity lead it
    is not known: the network is not among what they released. So a mask may choose the frames that carry the
    loss, or those around which more is hidden, or both. Their second loss is L1 on features plus intensity,
    with weight 1. Losses are named ``npc`` and ``intensity``; where frames are chosen ``hidden_share``, of
    weight 0, is their share.

    A batch is what :class:`affetto.objectives.mockingjay.MockingjayObjective` takes.

    Args:
        encoder: what is pretrained.
        settings: what is rebuilt, and where.
        masking: which frames are chosen; not looked at where none are.

    Raises:
        ConfigError: for another encoder, or when ``wider`` would hide all that the first block sees.
    """

    def __init__(self, encoder: Npc, settings: NpcObjectiveSettings, masking: MaskSettings) -> None:
        super().__init__()
        if not isinstance(encoder, Npc):
            raise ConfigError(
                f"the objective npc hides by the weights of its own encoder, got {type(encoder).__name__}; "
                "choose encoder.name=npc"
            )
        taps = encoder.taps[0]
        if settings.wider >= taps:
            raise ConfigError(
                f"npc.wider={settings.wider} hides all that the masked convolutions see; at most {taps - 1} "
                f"with kernel {encoder.settings.kernel} and hidden {encoder.settings.hidden}"
            )
        self.encoder, self.settings, self.masking = encoder, settings, masking
        self.stack, verb = feature_frames(encoder), "affetto annotate intensity"
        self.chooses = settings.frames == "chosen" or settings.wider > 0
        columns = self.stack * encoder.front_end.dim
        self.weights, self.needs = {"npc": 1.0}, {}
        self.quantiser = Quantiser(encoder.dim) if settings.quantise else nn.Identity()
        rebuilt_from = Quantiser.dim if settings.quantise else encoder.dim
        self.head = nn.Linear(rebuilt_from, columns)
        if self.chooses:
            self.weights["hidden_share"] = 0.0
            if masking.curve is not None:
                self.needs["guide"] = verb
        if settings.intensity_loss:
            self.weights["intensity"] = 1.0
            self.intensity_head = nn.Linear(rebuilt_from, columns)
        if settings.intensity_input or settings.intensity_loss:
            self.needs["intensity"] = verb

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses, and the share of frames that was chosen."""
        front_end, columns = self.encoder.front_end, batch.columns
        features, lengths = spectra(batch, front_end)
        frames = features.shape[1]
        guide, intensity = (
            fitted(columns[name], lengths, frames) if name in self.needs else None
            for name in ("guide", "intensity")
        )
        valid = torch.arange(frames, device=lengths.device) < lengths[:, None]
        target = network_scale(features, front_end)
        read = (
            target
            if intensity is None or not self.settings.intensity_input
            else target + intensity[:, :, None]
        )
        chosen = around = None
        if self.chooses:
            chosen = hidden_frames(lengths, frames, self.masking, guide, new_generator())
            around = F.pad(chosen, (0, -frames % self.stack)).reshape(len(chosen), -1, self.stack).any(2)
        encoded = self.encoder.encode(feature_scale(read, front_end), lengths, self.settings.wider, around)
        carrying = valid if chosen is None or self.settings.frames == "all" else chosen
        values = self.quantiser(encoded.values)
        losses = {"npc": mean_distance(self._rebuilt(self.head, values), target, carrying)}
        if self.settings.intensity_loss and intensity is not None:
            rebuilt = self._rebuilt(self.intensity_head, values)
            losses["intensity"] = mean_distance(rebuilt, target + intensity[:, :, None], carrying)
        if chosen is not None:
            losses["hidden_share"] = chosen.sum() / lengths.sum()
        return losses

    def _rebuilt(self, head: nn.Module, values: Tensor) -> Tensor:
        return torch.as_tensor(head(values).unflatten(2, (self.stack, -1)).flatten(1, 2))


class Quantiser(nn.Module):
    """Four vectors, each one of 64 that are learned: hard Gumbel softmax in training, the likeliest after.

    Liu et al. (2021), section 2.3, with the sizes and the temperature of 1 of their code.

    Args:
        width: ``D``, of what is quantised.
    """

    groups, codes, code_dim = 4, 64, 128
    dim = groups * code_dim

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choose = nn.Linear(width, self.groups * self.codes)
        self.vectors = nn.Parameter(torch.randn(self.groups, self.codes, self.code_dim) / self.code_dim**0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``(B, T, D)`` to ``(B, T, 4 * 128)``."""
        scores = self.choose(frames).unflatten(2, (self.groups, self.codes)).float()
        if self.training:  # draws from torch's own state, which checkpoints keep
            shares = F.gumbel_softmax(scores, tau=1.0, hard=True)
        else:
            shares = F.one_hot(scores.argmax(3), self.codes).to(scores)
        return torch.einsum("btgk,gkd->btgd", shares, self.vectors).flatten(2)
