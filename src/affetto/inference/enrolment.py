"""Enrolment of speakers: what is known of them, and which utterances it is made from."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import AudioError, ConfigError
from affetto.inference.sources import Clip
from affetto.progress import progress

FEWEST = 3
"""Of fewer utterances an enrolment makes more answers worse than better: docs/enrolment.md has figures."""

All = Literal["all"]
Drawn = dict[Clip, list[NDArray[np.float32]]]
"""Clips, each with the vectors ``(D,)`` of its pieces."""


@dataclass(frozen=True, eq=False)
class Enrolment:
    """How a speaker sounds, estimated from some unlabelled utterances.

    Attributes:
        offset: the speaker's offset, and how mixed the emotions are, ``(D + 1,)``.
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
        yield replace(clip, enrolled=True) if own and own.used and clip.key in own.used else clip


def with_speech(read: Drawn) -> Drawn:
    """Leaves out clips without vectors, which hold no speech, with a warning; an AudioError if all do."""
    spoken = {clip: vectors for clip, vectors in read.items() if vectors}
    silent = [f"{number} ({clip.file})" for number, clip in enumerate(read, 1) if clip not in spoken]
    if not spoken:
        raise AudioError(f"none of the {len(read)} enrolled utterances holds speech; name others")
    if silent:
        text = f"enrolled utterances without speech are left out: {', '.join(silent)} of {len(read)}"
        warnings.warn(text, stacklevel=3)
    return spoken


def draw_by_speaker(
    everything: Iterable[Clip],
    utterances: int | All,
    vectors_of: Callable[[Iterable[Clip]], Iterable[tuple[Clip, list[NDArray[np.float32]], str]]],
) -> Iterator[tuple[str, Drawn]]:
    """Draws enrolment utterances of every speaker: the same ones each time, others for those that fail.

    Yields speakers with enough of them and one left to score, each with the clips and their vectors. With
    ``"all"`` they are every utterance that can be read, of every speaker who has three.
    """
    if utterances != "all" and utterances < 1:
        raise ConfigError(f"got {utterances} enrolment utterances a speaker; at least 1 is needed, or all")
    pools: dict[str, list[Clip]] = {}
    for clip in everything:
        if clip.speaker is not None:
            pools.setdefault(clip.speaker, []).append(clip)
    if not pools:
        raise ConfigError(
            "enrolment by speaker needs segments with speakers, or a manifest whose column 'speaker' is "
            "filled in; or 'corpus', which is then enrolled as one speaker"
        )
    counts = {speaker: len(pool) if utterances == "all" else utterances for speaker, pool in pools.items()}
    left: dict[str, Iterator[Clip]] = {}
    for speaker, pool in pools.items():
        # At random, since the first of a folder may well all be angry.
        order = np.random.default_rng([counts[speaker], len(pool)]).permutation(len(pool))
        left[speaker] = iter([pool[place] for place in order])
    drawn: dict[str, Drawn] = {speaker: {} for speaker in pools}
    while wanted := [
        clip for speaker, pool in left.items() for clip in islice(pool, counts[speaker] - len(drawn[speaker]))
    ]:
        for clip, vectors, _ in vectors_of(progress(wanted, "enrol")):
            if vectors:
                drawn[str(clip.speaker)][clip] = vectors
    for speaker, own in drawn.items():
        if utterances == "all":
            enough = len(own) >= FEWEST
        else:
            enough = len(own) == utterances and next(left[speaker], None) is not None
        if enough:
            yield speaker, own
