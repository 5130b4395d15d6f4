"""What some unlabelled utterances of a speaker say about how that speaker sounds.

A vector is taken as ``common mean + speaker offset + class offset + rest``. Subtracting the plain mean of a
speaker's utterances would remove the emotion with the speaker when the utterances are all angry; so each
utterance first gives back the class offset that the recogniser expects of it, and the mean of what remains is
shrunk towards zero as far as the spread within and between training speakers says (the posterior mean under
normal distributions with diagonal covariance).

The classifier then sees the vector without the offset, and the offset itself beside it: learned from
simulated enrolments of training speakers, some of them skewed, it finds out how far each part of an offset is
to be trusted.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.models.heads import LinearHead, Standardise


class SpeakerOffset(nn.Module):
    """Estimates a speaker's offset, and scores vectors from which it was subtracted.

    Args:
        dim: size of the vectors.
        rank: ``R``, size of the space in which offsets live, reached by a fitted projection.
        classes: ``K``.
        rounds: how often class guesses and offset are refined in turn.
    """

    def __init__(self, dim: int, rank: int, classes: int, rounds: int = 3) -> None:
        super().__init__()
        self.rounds = rounds
        self.standardise = Standardise(dim)
        self.head = LinearHead(2 * rank, classes)
        for name, value in {
            "projection": torch.zeros(rank, dim),
            "common": torch.zeros(rank),
            "class_offsets": torch.zeros(classes, rank),
            "between": torch.ones(rank),
            "within": torch.ones(rank),
            "trust": torch.ones(()),
        }.items():
            self.register_buffer(name, value)
        self.projection: Tensor
        self.common: Tensor
        self.class_offsets: Tensor
        self.between: Tensor
        self.within: Tensor
        self.trust: Tensor

    def fit(self, vectors: Tensor, labels: Tensor, speakers: Tensor) -> "SpeakerOffset":
        """Takes projection and spread from labelled training utterances, and returns itself.

        Args:
            vectors: ``(N, D)``.
            labels: class numbers, ``(N,)``.
            speakers: speaker numbers, ``(N,)``.
        """
        standard = self.standardise.fit(vectors)(vectors)
        centre = standard.mean(0)
        _, _, axes = torch.linalg.svd((standard - centre).double(), full_matrices=False)
        rank = len(self.projection)
        kept = axes[:rank].float()
        # Fewer utterances than dimensions leave axes over; they stay zero and say nothing.
        self.projection[: len(kept)] = kept / (standard @ kept.T).std().clamp_min(1e-6)
        projected = standard @ self.projection.T
        self.common.copy_(projected.mean(0))
        centred = (projected - self.common).double()
        members = F.one_hot(labels, len(self.class_offsets)).double()
        groups = F.one_hot(speakers).double()
        sizes = groups.sum(0)[:, None]
        deviations = centred - ((groups.T @ centred) / sizes)[speakers]
        offsets = (members.T @ deviations) / members.sum(0)[:, None].clamp_min(1)
        within = (deviations - offsets[labels]).square().mean(0).clamp_min(1e-6)
        means = (groups.T @ (centred - offsets[labels])) / sizes
        self.class_offsets.copy_(offsets)
        self.within.copy_(within)
        self.between.copy_((means.square().mean(0) - within / sizes.mean()).clamp_min(1e-3 * within))
        return self

    def project(self, vectors: Tensor) -> Tensor:
        """Brings ``vectors (B, D)`` into the space of offsets, ``(B, R)``."""
        return torch.as_tensor(self.standardise(vectors) @ self.projection.T - self.common)

    @torch.no_grad()
    def estimate(self, projected: Tensor, scores: Tensor) -> Tensor:
        """Estimates one speaker's offset from unlabelled utterances.

        Args:
            projected: from :meth:`project`, ``(N, R)``; none at all gives a zero offset.
            scores: log-probabilities that the recogniser gives them without enrolment, ``(N, K)``.

        Returns:
            The offset, ``(R,)``.
        """
        offset = torch.zeros_like(self.common)
        if not len(projected):
            return offset
        shrinkage = self.between / (self.between + self.within / len(projected))
        for step in range(self.rounds + 1):
            guesses = (self.combine(scores, projected, offset) if step else scores).softmax(1)
            offset = shrinkage * (projected - guesses @ self.class_offsets).mean(0)
        return offset

    def combine(self, scores: Tensor, projected: Tensor, offsets: Tensor) -> Tensor:
        """Joins scores without enrolment and what the vectors say once their speakers' offsets are known.

        Args:
            scores: log-probabilities without enrolment, ``(B, K)``.
            projected: from :meth:`project`, ``(B, R)``.
            offsets: ``(B, R)`` or ``(R,)``.

        Returns:
            Scores, ``(B, K)``.
        """
        return torch.as_tensor(self.trust * scores + self.head(adapted(projected, offsets)))


def adapted(projected: Tensor, offsets: Tensor) -> Tensor:
    """Returns vectors without their offsets, and the offsets beside them: ``(B, 2 R)``."""
    offsets = offsets.expand_as(projected)
    return torch.cat([projected - offsets, offsets], dim=1)
