"""Adapts a recogniser to a speaker, from some unlabelled utterances.

A vector is taken as ``common mean + speaker offset + class offset + rest``. Subtracting the plain mean of a
speaker's utterances would remove the emotion with the speaker when the utterances are all angry; so each
utterance first gives back the class offset that the recogniser expects of it, and the mean of the remainder
is shrunk towards zero by the spread within and between training speakers (the posterior mean under normal
distributions with diagonal covariance).

The classifier then reads the vector without the offset, and the offset itself next to it, and learns from
simulated enrolments of training speakers how far each part of an offset is to be trusted. There are two such
heads, for enrolled utterances of even and of one-sided moods, since a speaker of whom only angry utterances
are known is known less well. They are mixed by how even the predicted moods are.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
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

    Attributes:
        one_sided: scores adapted vectors where the moods of the enrolled utterances are one-sided.
        even: where they are even.
        trust: how much scores without enrolment count beside either, ``(2,)``.
        evenness: what :func:`spread` is of one-sided moods, and of even ones, ``(2,)``.
    """

    def __init__(self, dim: int, rank: int, classes: int, rounds: int = 3) -> None:
        super().__init__()
        self.rounds = rounds
        self.standardise = Standardise(dim)
        self.one_sided = LinearHead(2 * rank, classes)
        self.even = LinearHead(2 * rank, classes)
        for name, value in {
            "projection": torch.zeros(rank, dim),
            "common": torch.zeros(rank),
            "class_offsets": torch.zeros(classes, rank),
            "between": torch.ones(rank),
            "within": torch.ones(rank),
            "trust": torch.ones(2),
            "evenness": torch.tensor([0.0, 1.0]),
        }.items():
            self.register_buffer(name, value)
        self.projection: Tensor
        self.common: Tensor
        self.class_offsets: Tensor
        self.between: Tensor
        self.within: Tensor
        self.trust: Tensor
        self.evenness: Tensor

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
        """Estimates what unlabelled utterances of one speaker tell.

        Args:
            projected: from :meth:`project`, ``(N, R)``; none at all gives zeros.
            scores: log-probabilities that the recogniser gives them without enrolment, ``(N, K)``.

        Returns:
            The offset, and at the end how even the moods are, from 0 to 1: ``(R + 1,)``.
        """
        speaker = torch.cat([torch.zeros_like(self.common), torch.zeros_like(self.trust[:1])])
        if not len(projected):
            return speaker
        low, high = self.evenness
        speaker[-1] = ((spread(scores) - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        shrinkage = self.between / (self.between + self.within / len(projected))
        for step in range(self.rounds + 1):
            guesses = (self.combine(scores, projected, speaker) if step else scores).softmax(1)
            speaker[:-1] = shrinkage * (projected - guesses @ self.class_offsets).mean(0)
        return speaker

    def combine(self, scores: Tensor, projected: Tensor, speakers: Tensor) -> Tensor:
        """Joins scores without enrolment and what the vectors say once their speakers' offsets are known.

        Args:
            scores: log-probabilities without enrolment, ``(B, K)``.
            projected: from :meth:`project`, ``(B, R)``.
            speakers: from :meth:`estimate`, ``(B, R + 1)`` or ``(R + 1,)``.

        Returns:
            Scores, ``(B, K)``.
        """
        inputs, even = adapted(projected, speakers[..., :-1]), speakers[..., -1:]
        one_sided = self.trust[0] * scores + self.one_sided(inputs)
        mixed = self.trust[1] * scores + self.even(inputs)
        return torch.as_tensor(one_sided + even * (mixed - one_sided))


def spread(scores: Tensor) -> Tensor:
    """Returns how evenly guesses are spread over the classes: 0 where all are one class, 1 for equal shares.

    Args:
        scores: log-probabilities, ``(N, K)``.

    Returns:
        The entropy of the mean guess over that of equal shares, ``()``.
    """
    shares = scores.softmax(1).mean(0)
    return torch.as_tensor(-torch.special.xlogy(shares, shares).sum() / math.log(len(shares)))


def adapted(projected: Tensor, offsets: Tensor) -> Tensor:
    """Returns vectors without their offsets, and the offsets beside them: ``(B, 2 R)``."""
    offsets = offsets.expand_as(projected)
    return torch.cat([projected - offsets, offsets], dim=1)


class SpeakerDraw(NamedTuple):
    """One speaker's enrolment: which rows are enrolled and which are scored."""

    enrolled: NDArray[np.int64]
    scored: NDArray[np.int64]


def draws(
    rows: NDArray[np.int64],
    speakers: NDArray[np.str_],
    truth: NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
    emotion: int | None = None,
) -> Iterator[SpeakerDraw]:
    """Draws enrolment utterances for every speaker that has more than those.

    Args:
        rows: utterances to draw from and to score.
        speakers: speaker of every utterance of the corpus.
        truth: class number of every utterance of the corpus.
        size: enrolment utterances a speaker.
        generator: decides which.
        emotion: draw from one class only, as many as there are up to ``size``; None from all.
    """
    for speaker in np.unique(speakers[rows]):
        own = rows[speakers[rows] == speaker]
        pool = own if emotion is None else own[truth[own] == emotion]
        enrolled = generator.permutation(pool)[:size]
        scored = np.setdiff1d(own, enrolled)
        if len(enrolled) and len(scored):
            yield SpeakerDraw(enrolled, scored)


def all_others(rows: NDArray[np.int64], speakers: NDArray[np.str_]) -> Iterator[SpeakerDraw]:
    """For each row, enrols all other rows of its speaker."""
    for speaker in np.unique(speakers[rows]):
        own = rows[speakers[rows] == speaker]
        for row in own:
            if len(own) > 1:
                yield SpeakerDraw(own[own != row], np.array([row]))
