"""Adapts a recogniser to a speaker, from some unlabelled utterances.

A vector is taken as ``mean of training + speaker offset + class offset + rest``. The mean of enrolled
utterances, shrunk by the spread within and between training speakers (the posterior mean under normal
distributions with diagonal covariance), estimates the speaker offset where their emotions are mixed. Where
they are of one emotion it holds that emotion as well. So the class offset that the recogniser expects is
subtracted from it, the more so the less the scores of the utterances differ. Unlike the scores themselves,
how far they differ does not depend on the speaker, the room or the language. A linear head, trained on
vectors without the offsets of their speakers, scores a vector without the offset; or a language head does, as
it was trained.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.models.heads import LinearHead, Standardise

_OTHER_ROOMS = 2.0  # speakers in other rooms and languages are further apart than those of one corpus


class SpeakerOffset(nn.Module):
    """Estimates a speaker's offset in ``D`` dimensions, and scores vectors without it.

    Without ``own_head`` the head of the recogniser scores them.
    """

    def __init__(self, dim: int, classes: int, own_head: bool = True) -> None:
        super().__init__()
        self.standardise = Standardise(dim)
        self.head = LinearHead(dim, classes) if own_head else None
        self.class_offsets = nn.Buffer(torch.zeros(classes, dim))
        self.between = nn.Buffer(torch.ones(dim))
        self.within = nn.Buffer(torch.ones(dim))
        self.trust = nn.Buffer(torch.zeros(()))  # weight of scores without enrolment, for one emotion alone
        self.spreads = nn.Buffer(torch.tensor([0.0, 1.0]))  # of one emotion alone, and of mixed ones

    def fit(self, vectors: Tensor, members: Tensor, speakers: Tensor) -> Tensor:
        """Fits offsets and variances on ``vectors (N, D)`` of training.

        ``members (N, K)`` are the classes, or guesses at them where there are no labels: each row adds up to
        1. Returns the vectors standardised and without the offsets of their ``speakers (N,)``.
        """
        standard = self.standardise.fit(vectors)(vectors)
        members = members.to(standard)
        groups = F.one_hot(speakers).to(standard)
        sizes = groups.sum(0)[:, None]
        deviations = standard - ((groups.T @ standard) / sizes)[speakers]
        self.class_offsets.copy_((members.T @ deviations) / members.sum(0)[:, None].clamp_min(1))
        expected = members @ self.class_offsets
        within = (deviations - expected).square().mean(0).clamp_min(1e-6)
        offsets = (groups.T @ (standard - expected)) / sizes
        self.within.copy_(within)
        between = offsets.square().mean(0) - within / sizes.mean()
        self.between.copy_((_OTHER_ROOMS * between).clamp_min(1e-3 * within))
        return torch.as_tensor(standard - offsets[speakers])

    @torch.no_grad()
    def estimate(self, vectors: Tensor, scores: Tensor) -> Tensor:
        """Estimates the offset of a speaker, and after it how mixed the emotions are, 0 to 1: ``(D + 1,)``.

        ``vectors (N, D)`` are unlabelled utterances, none at all gives zeros; ``scores (N, K)`` are their
        log-probabilities without enrolment.
        """
        if not len(vectors):
            return vectors.new_zeros(vectors.shape[1] + 1)
        low, high = self.spreads
        mixed = ((spread(scores) - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        shrinkage = self.between / (self.between + self.within / len(vectors))
        expected = (1 - mixed) * scores.softmax(1).mean(0) @ self.class_offsets
        return torch.cat([shrinkage * (self.standardise(vectors).mean(0) - expected), mixed[None]])

    def combine(
        self,
        scores: Tensor,
        vectors: Tensor,
        speakers: Tensor,
        other: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Returns scores of ``vectors (B, D)`` with enrolment, ``(B, K)``.

        ``scores`` are their log-probabilities without it; ``speakers``, ``(B, D + 1)`` or ``(D + 1,)``, are
        from :meth:`estimate`; ``other`` scores standardised vectors where there is no own head.
        """
        head = self.head or other
        assert head is not None
        adapted = head(self.standardise(vectors) - speakers[..., :-1])
        return with_plain(adapted, scores, (1 - speakers[..., -1:]) * self.trust)


def with_plain(adapted: Tensor, scores: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean of adapted scores and those without enrolment, at which one temperature fits all."""
    return (adapted + weight * scores) / (1 + weight)


def spread(scores: Tensor) -> Tensor:
    """Returns how far the scores ``(N, K)`` of utterances differ: the log of their mean variance."""
    shape = scores - scores.mean(1, keepdim=True)  # log-probabilities have the scores' differences alone
    return torch.as_tensor((shape.var(0, correction=0).mean() + 1e-3).log())


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
