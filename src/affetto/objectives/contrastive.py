"""Contrastive learning on groups within a speaker: clusters, the utterance itself, or similarity.

Ulgen et al. (2024), "Revealing emotional clusters in speaker embeddings", with the loss of Khosla et al.
(2020), "Supervised contrastive learning", equation 2. The recipe is not published in full; this is a
reconstruction.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import NONE
from affetto.objectives.objective import Task, Views, gathered, mean_loss, own_rows


class ContrastiveSettings(Settings):
    """What is pulled together and what is pushed apart.

    Positives are, for ``"group"``, utterances of the same speaker and group; for ``"view"`` only the
    utterance's own second view (SimCLR, Chen et al. 2020); for ``"similar"`` all candidates, by how similar
    their speaker-centred vectors are.
    """

    positives: Literal["group", "view", "similar"] = "group"
    candidates: Literal["speaker", "all"] = "speaker"  # other items of the same speaker, or of every one
    matched: bool = False  # whether a group means the same for every speaker; for candidates "all"
    temperature: float = Field(0.1, gt=0)  # divides the cosines that are learned
    target_temperature: float = Field(0.1, gt=0)  # divides those of the vectors, for positives "similar"
    hidden: int = Field(256, ge=4)  # width of the hidden layer of the projection head
    projection: int = Field(128, ge=2)  # size of its output

    @model_validator(mode="after")
    def _fits(self) -> "ContrastiveSettings":
        got = f"with positives={self.positives} and candidates={self.candidates}; it is for positives"
        if self.matched and (self.positives, self.candidates) != ("group", "all"):
            raise ValueError(f"got matched=true {got}=group and candidates=all: set these, or leave it out")
        if self.positives != "similar" and self.target_temperature != 0.1:
            temperature = f"target_temperature={self.target_temperature:g}"
            raise ValueError(f"got {temperature} {got}=similar: set that, or leave it out")
        return self


class Contrastive(Task):
    """A projection head on vectors of size ``dim``, and the contrastive loss on it."""

    def __init__(self, settings: ContrastiveSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Sequential(
            nn.Linear(dim, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, settings.projection)
        )

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        settings = self.settings
        projected = F.normalize(self.head(views.vectors).float(), dim=1)
        everyone, own = gathered(projected), own_rows(projected)
        index, speaker = gathered(views.index), gathered(views.columns["speaker"])
        places = torch.arange(len(everyone), device=projected.device)
        itself = places[own, None] == places
        same_speaker = speaker[own, None] == speaker
        candidates = ~itself if settings.candidates == "all" else same_speaker & ~itself
        positives = (index[own, None] == index).float()
        if settings.positives == "group":
            group = gathered(views.columns["group"])
            together = (group[own, None] == group) & (group != NONE)
            if not settings.matched:
                together &= same_speaker
            positives = torch.maximum(positives, together.float())
        elif settings.positives == "similar":
            vector = F.normalize(gathered(views.columns["vector"]), dim=1)
            cosines = vector[own] @ vector.T / settings.target_temperature
            positives = cosines.masked_fill(~candidates, -torch.inf).softmax(1)
        similarities = projected @ everyone.T / settings.temperature
        return mean_loss(contrastive_losses(similarities, positives * candidates, candidates))


def contrastive_losses(similarities: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Returns the supervised contrastive loss of each anchor, ``(B,)`` (Khosla et al. 2020, equation 2).

    Minus the logarithm of a positive's share among the candidates, averaged over positives by their weights.

    Args:
        similarities: of anchors and items, divided by the temperature, ``(B, N)``.
        positives: weights, ``(B, N)``, zero for items that are not positives; each anchor needs one above 0.
        candidates: ``(B, N)`` bool; the items in the denominator, positives among them.
    """
    shares = similarities.masked_fill(~candidates, -torch.inf).log_softmax(1)
    weights = positives / positives.sum(1, keepdim=True).clamp_min(1e-9)
    return -(weights * shares.masked_fill(~candidates, 0.0)).sum(1)
