"""Reconstruction: the spectrum, as it was before stretches of it were hidden, from the encoder's frames."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.models.encoder import frame_mask, normalise_logmel
from affetto.objectives.objective import Task, Views, mean_over_processes


class ReconstructionTask(Task):
    """One linear layer from each of the encoder's frames to the feature frames under it; mean distance.

    Args:
        dim: ``D``, width of the encoder's frames.
        bins: ``F``, columns of the features.
        stack: feature frames under one frame of the encoder.
        power: whether the features are power, of which the logarithm is rebuilt.
    """

    def __init__(self, dim: int, bins: int, stack: int, power: bool = False) -> None:
        super().__init__()
        self.needs = {}
        self.stack, self.power = stack, power
        self.head = nn.Linear(dim, stack * bins)

    def forward(self, views: Views) -> Tensor:
        """Returns the mean absolute error over valid feature frames of all processes."""
        rebuilt = self.head(views.frames.values).unflatten(2, (self.stack, -1)).flatten(1, 2)
        features = views.features.clamp_min(1e-10).log() if self.power else views.features
        target = normalise_logmel(features)
        frames = min(rebuilt.shape[1], target.shape[1])
        mask = frame_mask(views.lengths.clamp_max(frames), frames)
        errors = F.l1_loss(rebuilt[:, :frames].float(), target[:, :frames], reduction="none").mean(2)
        return mean_over_processes((errors * mask.squeeze(2)).sum(), torch.as_tensor(mask.sum()))
