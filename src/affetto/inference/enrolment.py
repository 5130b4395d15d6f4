"""Whose voice it is: the enrolments of speakers, and which utterances they are made from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import ConfigError
from affetto.inference.sources import Clip, Piece


@dataclass(frozen=True, eq=False)
class Enrolment:
    """What some unlabelled utterances of a speaker said about how that speaker sounds.

    Attributes:
        offset: what is subtracted from the vectors of that speaker, and how far that counts, ``(R + 1,)``.
        utterances: how many it rests on.
        used: keys of those clips, which are not scored.
    """

    offset: Tensor
    utterances: int
    used: frozenset[tuple[str, float | None, float | None]] = field(default=frozenset(), repr=False)


Enrolments = Enrolment | Mapping[str, Enrolment]
"""One speaker's enrolment, or those of several by ``corpus/speaker``."""


def enrolment_of(enrolment: Enrolments | None, clip: Clip) -> Enrolment | None:
    """Returns the enrolment of whoever speaks in a clip; None where there is none."""
    if enrolment is None or isinstance(enrolment, Enrolment):
        return enrolment
    return None if clip.speaker is None else enrolment.get(clip.speaker)


def marked(everything: Iterable[Clip], enrolment: Enrolments | None) -> Iterator[Clip]:
    """Marks the clips that an enrolment was made from, so that nobody scores them."""
    for clip in everything:
        own = enrolment_of(enrolment, clip)
        used = own is not None and bool(own.used) and clip.key in own.used
        yield replace(clip, enrolled=True) if used else clip


def vectors_of(
    results: Iterable[tuple[Piece, NDArray[np.float32] | None]],
) -> Iterator[tuple[Clip, list[NDArray[np.float32]], str]]:
    """Yields each clip with the vectors ``(D,)`` of its pieces, or with none and the fault."""
    vectors: list[NDArray[np.float32]] = []
    for piece, vector in results:
        if vector is not None:
            vectors.append(vector)
        if piece.last:
            yield piece.clip, [] if piece.fault else vectors, piece.fault
            vectors = []


class Draw:
    """Draws enrolment utterances of every speaker: the same ones each time, others for those that fail.

    Args:
        everything: clips; those without a speaker do not count.
        utterances: how many of each speaker.

    Raises:
        ConfigError: when no clip has a speaker, or less than one utterance is asked for.
    """

    def __init__(self, everything: Iterable[Clip], utterances: int) -> None:
        if utterances < 1:
            raise ConfigError(f"got {utterances} enrolment utterances a speaker; at least 1 is needed")
        self.utterances = utterances
        self.left: dict[str, list[Clip]] = {}
        self.drawn: dict[str, dict[Clip, list[NDArray[np.float32]]]] = {}
        for clip in everything:
            if clip.speaker is not None:
                self.left.setdefault(clip.speaker, []).append(clip)
        if not self.left:
            raise ConfigError("enrolment by speaker needs a manifest whose column 'speaker' is filled in")
        for speaker, pool in self.left.items():
            # At random, since the first of a folder may well all be angry.
            order = np.random.default_rng([utterances, len(pool)]).permutation(len(pool))
            self.left[speaker] = [pool[place] for place in order]
            self.drawn[speaker] = {}

    def wanted(self) -> list[Clip]:
        """Returns the clips to try next; none once every speaker has enough, or nothing left to try."""
        chosen = []
        for speaker, pool in self.left.items():
            for _ in range(min(self.utterances - len(self.drawn[speaker]), len(pool))):
                chosen.append(pool.pop(0))
        return chosen

    def take(self, clip: Clip, vectors: list[NDArray[np.float32]]) -> None:
        """Keeps the vectors of a clip that could be read."""
        if vectors and clip.speaker is not None:
            self.drawn[clip.speaker][clip] = vectors

    def complete(
        self,
    ) -> Iterator[tuple[str, list[NDArray[np.float32]], frozenset[tuple[str, float | None, float | None]]]]:
        """Yields the speakers with enough utterances, and something left to score: name, vectors, keys."""
        for speaker, drawn in self.drawn.items():
            if len(drawn) == self.utterances and self.left[speaker]:
                vectors = [vector for own in drawn.values() for vector in own]
                yield speaker, vectors, frozenset(clip.key for clip in drawn)
