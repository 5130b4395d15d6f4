"""Speaker classification, in favour of the speaker or, with the gradient reversed, against it."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.objectives.objective import Task, Views, mean_over_processes


class SpeakerSettings(Settings):
    """How speakers are told apart.

    Attributes:
        margin: 0 for a plain softmax; above, what is taken off the cosine of the right speaker (additive
            margin softmax, Wang et al. 2018, equation 6).
        scale: factor on the cosines where there is a margin.
    """

    margin: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(30.0, gt=0)


class SpeakerTask(Task):
    """Cross-entropy over the speakers of the training part.

    Args:
        settings: softmax or margin.
        dim: ``D``, size of the vectors.
        speakers: how many there are.
        reversed_gradient: whether the network before the head learns to hide the speaker (Ganin et al. 2016).
    """

    def __init__(self, settings: SpeakerSettings, dim: int, speakers: int, reversed_gradient: bool) -> None:
        super().__init__()
        self.needs = {"speaker": "scan"}
        self.settings, self.reversed_gradient = settings, reversed_gradient
        self.head = nn.Linear(dim, speakers)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        vectors = views.vectors.float()
        if self.reversed_gradient:
            vectors = reverse_gradient(vectors)
        speaker = views.columns["speaker"]
        if self.settings.margin:
            cosines = F.normalize(vectors, dim=1) @ F.normalize(self.head.weight, dim=1).T
            margins = self.settings.margin * F.one_hot(speaker, cosines.shape[1])
            scores = self.settings.scale * (cosines - margins)
        else:
            scores = self.head(vectors)
        losses = F.cross_entropy(scores, speaker, reduction="none")
        return mean_over_processes(losses.sum(), losses.new_tensor(float(len(losses))))


def reverse_gradient(values: Tensor) -> Tensor:
    """Returns the values; backward, their gradient changes its sign."""
    return torch.as_tensor(_Reverse.apply(values))  # type: ignore[no-untyped-call]


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]
