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
    """Estimates a speaker's offset in ``R`` fitted dimensions, and scores vectors without it."""

    def __init__(self, dim: int, rank: int, classes: int, rounds: int = 3) -> None:
        super().__init__()
        self.rounds = rounds  # how often class guesses and offset are refined in turn
        self.standardise = Standardise(dim)
        self.one_sided = LinearHead(2 * rank, classes)  # where the moods of the enrolled are one-sided
        self.even = LinearHead(2 * rank, classes)  # where they are even
        self.projection = nn.Buffer(torch.zeros(rank, dim))
        self.common = nn.Buffer(torch.zeros(rank))
        self.class_offsets = nn.Buffer(torch.zeros(classes, rank))
        self.between = nn.Buffer(torch.ones(rank))
        self.within = nn.Buffer(torch.ones(rank))
        self.trust = nn.Buffer(torch.ones(2))  # weight of scores without enrolment, next to either head
        self.evenness = nn.Buffer(torch.tensor([0.0, 1.0]))  # of one-sided moods, and of even ones

    def fit(self, vectors: Tensor, labels: Tensor, speakers: Tensor) -> "SpeakerOffset":
        """Fits projection and variances on ``vectors (N, D)`` of training; returns itself."""
        standard = self.standardise.fit(vectors)(vectors)
        centre = standard.mean(0)
        _, _, axes = torch.linalg.svd((standard - centre).double(), full_matrices=False)
        rank = len(self.projection)
        kept = axes[:rank].float()
        # With fewer utterances than dimensions, the remaining axes stay zero.
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
        """Projects ``vectors (B, D)`` into the space of offsets, ``(B, R)``."""
        return torch.as_tensor(self.standardise(vectors) @ self.projection.T - self.common)

    @torch.no_grad()
    def estimate(self, projected: Tensor, scores: Tensor) -> Tensor:
        """Estimates the offset of a speaker, followed by how even the moods are, from 0 to 1: ``(R + 1,)``.

        ``projected (N, R)`` are unlabelled utterances, none at all gives zeros; ``scores (N, K)`` are their
        log-probabilities without enrolment.
        """
        speaker = torch.cat([torch.zeros_like(self.common), torch.zeros_like(self.trust[:1])])
        if not len(projected):
            return speaker
        low, high = self.evenness
        speaker[-1] = ((evenness(scores) - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        shrinkage = self.between / (self.between + self.within / len(projected))
        for step in range(self.rounds + 1):
            guesses = (self.combine(scores, projected, speaker) if step else scores).softmax(1)
            speaker[:-1] = shrinkage * (projected - guesses @ self.class_offsets).mean(0)
        return speaker

    def combine(self, scores: Tensor, projected: Tensor, speakers: Tensor) -> Tensor:
        """Returns scores with enrolment, ``(B, K)``, of log-probabilities ``scores`` without it.

        ``speakers``, ``(B, R + 1)`` or ``(R + 1,)``, are from :meth:`estimate`.
        """
        inputs, even = adapted(projected, speakers[..., :-1]), speakers[..., -1:]
        one_sided = self.trust[0] * scores + self.one_sided(inputs)
        mixed = self.trust[1] * scores + self.even(inputs)
        return torch.as_tensor(one_sided + even * (mixed - one_sided))


def evenness(scores: Tensor) -> Tensor:
    """Returns how even guesses are: the entropy of their mean over that of equal shares, 0 to 1."""
    shares = scores.softmax(1).mean(0)
    return torch.as_tensor(-torch.special.xlogy(shares, shares).sum() / math.log(len(shares)))


def adapted(projected: Tensor, offsets: Tensor) -> Tensor:
    """Returns vectors without their offsets, followed by the offsets: ``(B, 2 R)``."""
    offsets = offsets.expand_as(projected)
    return torch.cat([projected - offsets, offsets], dim=1)


class SpeakerDraw(NamedTuple):
    """One speaker's enrolment: which rows are enrolled and which are scored."""

    enrolled: NDArray[np.int64]
    scored: NDArray[np.int64]


def draws(
    speakers: NDArray[np.str_],
    truth: NDArray[np.int64],
    rows: NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
    emotion: int | None = None,
) -> Iterator[SpeakerDraw]:
    """Draws ``size`` of ``rows`` for every speaker that has more than those, the rest to be scored.

    ``speakers`` and ``truth`` (class numbers) are of the whole corpus. An ``emotion`` draws from one class
    only, as many as there are up to ``size``.
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
