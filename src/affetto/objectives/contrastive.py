"""Contrastive learning on groups within a speaker: clusters, the utterance itself, or similarity.

Ulgen et al. (2024), "Revealing emotional clusters in speaker embeddings": utterances of the same speaker and
cluster are positives, those of the speaker's other clusters are negatives. The loss is that of Khosla et al.
(2020), "Supervised contrastive learning", equation 2, with the sum over positives outside the logarithm. The
paper's recipe is not published in full; this is a reconstruction.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import NONE
from affetto.objectives.distributed import gathered, mean_loss, own_rows
from affetto.objectives.objective import Task, Views


class ContrastiveSettings(Settings):
    """What is pulled together and what is pushed apart.

    Attributes:
        positives: ``"group"``, utterances of the same speaker and group; ``"view"``, only the utterance's own
            second view (SimCLR, Chen et al. 2020); ``"similar"``, every candidate in proportion to how
            similar the speaker-centred vectors of the two utterances are.
        candidates: ``"speaker"``, all other items of the same speaker; ``"all"``, of every speaker.
        matched: whether a group means the same for every speaker, so that items of other speakers are
            positives too; only with candidates ``"all"``.
        temperature: divides the cosines that are learned.
        target_temperature: divides the cosines of the vectors, where positives are ``"similar"``.
        hidden: width of the hidden layer of the projection head.
        projection: size of its output.
    """

    positives: Literal["group", "view", "similar"] = "group"
    candidates: Literal["speaker", "all"] = "speaker"
    matched: bool = False
    temperature: float = Field(0.1, gt=0)
    target_temperature: float = Field(0.1, gt=0)
    hidden: int = Field(256, ge=4)
    projection: int = Field(128, ge=2)

    @model_validator(mode="after")
    def _fits(self) -> "ContrastiveSettings":
        if self.matched and (self.positives, self.candidates) != ("group", "all"):
            raise ValueError(
                f"got matched=true with positives={self.positives} and candidates={self.candidates}; it is "
                "for positives=group and candidates=all: set these, or leave matched out"
            )
        default = type(self).model_fields["target_temperature"].default
        if self.positives != "similar" and self.target_temperature != default:
            raise ValueError(
                f"got target_temperature={self.target_temperature:g} with positives={self.positives}; it is "
                "for positives=similar: set that, or leave it out"
            )
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

    For each positive, minus the logarithm of its share among the candidates; then the mean over positives,
    with their weights.

    Args:
        similarities: of anchors and items, already divided by the temperature, ``(B, N)``.
        positives: weights, ``(B, N)``, zero for items that are not positives; each anchor needs one above 0.
        candidates: ``(B, N)`` bool; the items in the denominator, positives among them.
    """
    shares = similarities.masked_fill(~candidates, -torch.inf).log_softmax(1)
    weights = positives / positives.sum(1, keepdim=True).clamp_min(1e-9)
    return -(weights * shares.masked_fill(~candidates, 0.0)).sum(1)
