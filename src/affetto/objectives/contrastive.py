"""Contrastive learning on groups within a speaker: clusters, the utterance itself, or similarity.

Ulgen et al. (2024), "Revealing emotional clusters in speaker embeddings": utterances of one speaker and
cluster belong together, those of the speaker's other clusters do not. The loss is that of Khosla et al.
(2020), "Supervised contrastive learning", equation 2, with the sum over positives outside the logarithm. The
paper's own recipe is not published in full; what is written here is a reconstruction.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.data import NONE
from affetto.objectives.objective import Task, Views, first_row, gathered, mean_over_processes


class ContrastiveSettings(Settings):
    """What is pulled together and what is pushed apart.

    Attributes:
        positives: ``"cluster"``, utterances of the same speaker and cluster; ``"view"``, only the utterance's
            own second view (SimCLR, Chen et al. 2020); ``"similar"``, every candidate in proportion to how
            similar the speaker-centred vectors of the two utterances are.
        candidates: ``"speaker"``, all other items of the same speaker; ``"all"``, of every speaker.
        matched: whether a cluster number means the same for every speaker, so that items of other speakers
            are positives too; asks for candidates ``"all"``.
        temperature: divides the cosines that are learned.
        target_temperature: divides the cosines of the vectors, where positives are ``"similar"``.
        hidden: width of the hidden layer of the projection head.
        projection: size of what comes out of it.
    """

    positives: Literal["cluster", "view", "similar"] = "cluster"
    candidates: Literal["speaker", "all"] = "speaker"
    matched: bool = False
    temperature: float = Field(0.1, gt=0)
    target_temperature: float = Field(0.1, gt=0)
    hidden: int = Field(256, ge=4)
    projection: int = Field(128, ge=2)


class Contrastive(Task):
    """A projection head and the contrastive loss on it.

    Args:
        settings: what belongs together.
        dim: ``D``, size of the vectors.
    """

    def __init__(self, settings: ContrastiveSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.needs = {"speaker": "scan"}
        if settings.positives == "cluster":
            self.needs["cluster"] = "annotate clusters"
        if settings.positives == "similar":
            self.needs["vector"] = "annotate speakers"
        self.head = nn.Sequential(
            nn.Linear(dim, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, settings.projection)
        )

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        projected = F.normalize(self.head(views.vectors).float(), dim=1)
        everyone = gathered(projected)
        index, speaker = gathered(views.index), gathered(views.columns["speaker"])
        start = first_row(projected)
        own = slice(start, start + len(projected))
        itself = torch.zeros(len(projected), len(everyone), dtype=torch.bool, device=projected.device)
        itself[torch.arange(len(projected)), torch.arange(start, start + len(projected))] = True
        same_speaker = speaker[own, None] == speaker
        candidates = same_speaker if self.settings.candidates == "speaker" else torch.ones_like(itself)
        candidates = candidates & ~itself
        positives = (index[own, None] == index).float()
        if self.settings.positives == "cluster":
            cluster = gathered(views.columns["cluster"])
            together = (cluster[own, None] == cluster) & (cluster != NONE)
            together &= torch.ones_like(same_speaker) if self.settings.matched else same_speaker
            positives = torch.maximum(positives, together.float())
        elif self.settings.positives == "similar":
            vector = F.normalize(gathered(views.columns["vector"]), dim=1)
            cosines = vector[own] @ vector.T / self.settings.target_temperature
            positives = cosines.masked_fill(~candidates, -torch.inf).softmax(1)
        losses = contrastive_losses(
            projected @ everyone.T / self.settings.temperature, positives * candidates, candidates
        )
        return mean_over_processes(losses.sum(), losses.new_tensor(float(len(losses))))


def contrastive_losses(similarities: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Returns the loss of each anchor, ``(B,)``.

    For one positive after the other, minus the logarithm of its share among the candidates, averaged with
    the weights of the positives.

    Args:
        similarities: already divided by the temperature, ``(B, N)``.
        positives: weights, ``(B, N)``, zero for what is no positive; every anchor needs one above zero.
        candidates: ``(B, N)`` bool; positives are among them.
    """
    shares = similarities.masked_fill(~candidates, -torch.inf).log_softmax(1)
    weights = positives / positives.sum(1, keepdim=True).clamp_min(1e-9)
    return -(weights * shares.masked_fill(~candidates, 0.0)).sum(1)
