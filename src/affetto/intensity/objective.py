"""Strength of emotion: utterances, frames and the emotion itself, learned together."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig, spec_augment
from affetto.augment_features import augment_spectra
from affetto.config import Settings
from affetto.data import Batch
from affetto.intensity.network import StrengthNet
from affetto.models.encoder import frame_mask
from affetto.objectives.objective import Objective, mean_over_processes


class StrengthLossSettings(Settings):
    """Weights of the three losses.

    Attributes:
        utterance: absolute error of an utterance's mean.
        frame: absolute error of its frames, each against the strength of the utterance.
        emotion: cross-entropy of the emotion.
    """

    utterance: float = Field(1.0, ge=0)
    frame: float = Field(1.0, ge=0)
    emotion: float = Field(1.0, ge=0)


class LearnStrength(Objective):
    """Absolute errors of utterances and frames, and the cross-entropy of the emotion.

    The losses of StrengthNet (Liu et al. 2022, arXiv 2206.07229). Nobody knows the strength of a frame:
    its target is that of the whole utterance, so that frames differ only as far as the network sees strength
    in some and not in others. A batch holds log-mel frames and the columns ``strength (B,)``, 0 to 1, and
    ``label (B,)``.

    Args:
        network: what is trained.
        settings: weights of the losses.
        augment: what is done to log-mel frames in training.
    """

    def __init__(
        self, network: StrengthNet, settings: StrengthLossSettings, augment: AugmentConfig | None = None
    ) -> None:
        super().__init__()
        self.needs = {"strength": "annotate intensity", "label": "scan"}
        self.weights = settings.model_dump()
        self.network = network
        self.augment = augment or AugmentConfig()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``utterance``, ``frame`` and ``emotion``, each a mean over the batch of all processes."""
        values, lengths = batch.values, batch.lengths
        if self.training:
            generator = torch.Generator(device="cpu")
            # Drawn from the global state, which checkpoints keep, so that a resumed run draws the same.
            generator.manual_seed(int(torch.randint(2**31, ()).item()))
            front_end = self.network.front_end
            values, lengths = augment_spectra(values, lengths, self.augment, front_end, generator)
            values = spec_augment(values, lengths, self.augment, generator)
        said = self.network(values, lengths)
        target = batch.columns["strength"]
        mask = frame_mask(said.lengths, said.frames.shape[1]).squeeze(2)
        errors = (said.frames - target[:, None]).abs() * mask
        count = torch.as_tensor(float(len(target)), device=target.device)
        wrong = F.cross_entropy(said.emotions.float(), batch.columns["label"], reduction="sum")
        return {
            "utterance": mean_over_processes((said.utterances - target).abs().sum(), count),
            "frame": mean_over_processes(errors.sum(), mask.sum()),
            "emotion": mean_over_processes(wrong, count),
        }
