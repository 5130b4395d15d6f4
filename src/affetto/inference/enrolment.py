"""Enrolment of speakers: what is known of them, and which utterances it is made from."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import ConfigError
from affetto.inference.sources import Clip

Vectors = tuple[Clip, list[NDArray[np.float32]], str]
"""A clip with the vectors ``(D,)`` of its pieces, or with none and the reason."""


@dataclass(frozen=True, eq=False)
class Enrolment:
    """How a speaker sounds, estimated from some unlabelled utterances.

    Attributes:
        offset: the speaker's offset, and the weight it is given, ``(R + 1,)``.
        utterances: how many it was estimated from.
        used: keys of those clips, which are not scored.
    """

    offset: Tensor
    utterances: int
    used: frozenset[str] = field(default=frozenset(), repr=False)


Enrolments = Enrolment | Mapping[str, Enrolment]
"""One speaker's enrolment, or those of several by ``corpus/speaker``."""


def enrolment_of(enrolment: Enrolments | None, clip: Clip) -> Enrolment | None:
    """Returns the enrolment of a clip's speaker; None where there is none."""
    if enrolment is None or isinstance(enrolment, Enrolment):
        return enrolment
    return None if clip.speaker is None else enrolment.get(clip.speaker)


def marked(everything: Iterable[Clip], enrolment: Enrolments | None) -> Iterator[Clip]:
    """Marks the clips that an enrolment was made from, so that they are not scored."""
    for clip in everything:
        own = enrolment_of(enrolment, clip)
        used = own is not None and bool(own.used) and clip.key in own.used
        yield replace(clip, enrolled=True) if used else clip


def draw_by_speaker(
    everything: Iterable[Clip], utterances: int, vectors_of: Callable[[list[Clip]], Iterable[Vectors]]
) -> Iterator[tuple[list[NDArray[np.float32]], str, frozenset[str]]]:
    """Draws enrolment utterances of every speaker: the same ones each time, others for those that fail.

    Yields vectors, speaker and keys of the clips, for speakers with enough of them and one left to score.
    """
    if utterances < 1:
        raise ConfigError(f"got {utterances} enrolment utterances a speaker; at least 1 is needed")
    left: dict[str, list[Clip]] = {}
    for clip in everything:
        if clip.speaker is not None:
            left.setdefault(clip.speaker, []).append(clip)
    if not left:
        raise ConfigError("enrolment by speaker needs a manifest whose column 'speaker' is filled in")
    drawn: dict[str, dict[Clip, list[NDArray[np.float32]]]] = {speaker: {} for speaker in left}
    for speaker, pool in left.items():
        # At random, since the first of a folder may well all be angry.
        order = np.random.default_rng([utterances, len(pool)]).permutation(len(pool))
        left[speaker] = [pool[place] for place in order]
    while True:
        wanted = []
        for speaker, pool in left.items():
            missing = utterances - len(drawn[speaker])
            wanted += pool[:missing]
            left[speaker] = pool[missing:]
        if not wanted:
            break
        for clip, vectors, _ in vectors_of(wanted):
            if vectors and clip.speaker is not None:
                drawn[clip.speaker][clip] = vectors
    for speaker, own in drawn.items():
        if len(own) == utterances and left[speaker]:
            yield [each for some in own.values() for each in some], speaker, frozenset(c.key for c in own)
