"""Enrolment of speakers: which utterances it is made from, their vectors, and what is known of a speaker."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import AudioError, ConfigError
from affetto.inference.pipeline import Plan, by_clip, in_order, padded
from affetto.inference.segments import Cut
from affetto.inference.sources import Clip, Piece, Root, Sources, clips
from affetto.models.classifier import EmotionClassifier
from affetto.models.encoder import with_company
from affetto.models.speech import SpeechDetector
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


class Enrols:
    """Embeds recordings by the network of a recogniser, and enrols speakers with it."""

    classifier: EmotionClassifier
    detector: SpeechDetector | None  # whether there is speech; None where that does not matter
    device: torch.device

    def embed(self, sources: Sources, *, root: Root = None) -> Tensor:
        """Returns the vectors of recordings, ``(N, D)``; an AudioError for the first that cannot be read."""
        return _stacked(self._readable(sources, root))

    def enrol(self, sources: Sources | Tensor, *, root: Root = None) -> Enrolment:
        """Estimates how a speaker sounds from unlabelled utterances; ten of mixed mood do well.

        ``sources`` may also be their vectors ``(N, D)`` from :meth:`embed`. Utterances without speech are
        left out, with a warning.

        Raises:
            AudioError: for an utterance that cannot be read, and where none holds speech.
            ConfigError: when the recogniser was made without enrolment.
        """
        self.classifier.must_adapt()
        if isinstance(sources, Tensor):
            return Enrolment(self._offset(sources), len(sources))
        return self._enrolment(with_speech(self._readable(sources, root, speech=True)))

    def enrol_speakers(
        self, sources: Sources, utterances: int | All, *, root: Root = None
    ) -> dict[str, Enrolment]:
        """Enrols every speaker of manifests from that many utterances, drawn the same way every time.

        An utterance that cannot be read, or without speech, is replaced by another of that speaker. A speaker
        who would have none left to score is not enrolled. With ``"all"`` every utterance is enrolled, and
        scored all the same; speakers with fewer than three that hold speech are not enrolled. Utterances
        without a speaker are enrolled by their corpus. Returns enrolments by ``corpus/speaker``.

        Raises:
            ConfigError: when no speaker is named, or the recogniser was made without enrolment.
        """
        return self.enrol_cut(Cut(sources, root), utterances)

    def enrol_cut(self, everything: Iterable[Clip], utterances: int | All) -> dict[str, Enrolment]:
        """Enrols as :meth:`enrol_speakers`, of clips; ``predict`` lists them once."""
        self.classifier.must_adapt()
        found = {speaker: self._enrolment(own) for speaker, own in self._drawn(everything, utterances)}
        if utterances == "all":
            found = {speaker: replace(own, used=frozenset()) for speaker, own in found.items()}
        return found

    def _drawn(self, everything: Iterable[Clip], utterances: int | All) -> Iterator[tuple[str, Drawn]]:
        """Draws enrolment utterances of every speaker: the same ones each time, others for those that fail.

        Yields speakers with enough of them and one left to score, each with the clips and their vectors. With
        ``"all"`` they are every utterance that can be read, of every speaker who has three.
        """
        if utterances != "all" and utterances < 1:
            raise ConfigError(
                f"got {utterances} enrolment utterances a speaker; at least 1 is needed, or all"
            )
        pools: dict[str, list[Clip]] = {}
        for clip in everything:
            if clip.speaker is not None:
                pools.setdefault(clip.speaker, []).append(clip)
        if not pools:
            raise ConfigError(
                "enrolment by speaker needs segments with speakers, or a manifest whose column 'speaker' is "
                "filled in; or 'corpus', which is then enrolled as one speaker"
            )
        counts = {
            speaker: len(pool) if utterances == "all" else utterances for speaker, pool in pools.items()
        }
        left: dict[str, Iterator[Clip]] = {}
        for speaker, pool in pools.items():
            # At random, since the first of a folder may well all be angry.
            order = np.random.default_rng([counts[speaker], len(pool)]).permutation(len(pool))
            left[speaker] = iter([pool[place] for place in order])
        drawn: dict[str, Drawn] = {speaker: {} for speaker in pools}
        while wanted := [
            clip
            for speaker, pool in left.items()
            for clip in islice(pool, counts[speaker] - len(drawn[speaker]))
        ]:
            for clip, vectors, _ in self._vectors(progress(wanted, "enrol"), speech=True):
                if vectors:
                    drawn[str(clip.speaker)][clip] = vectors
        for speaker, own in drawn.items():
            if utterances == "all":
                enough = len(own) >= FEWEST
            else:
                enough = len(own) == utterances and next(left[speaker], None) is not None
            if enough:
                yield speaker, own

    def _embed(self, pieces: list[Piece], speech: bool = False) -> Tensor:
        """Embeds pieces, ``(B, D)``; with ``speech``, NaN for those without."""
        waveforms, lengths = padded(pieces, self.device)
        vectors = self.classifier.embed(*self.classifier.front_end(waveforms, lengths))
        if speech and self.detector is not None:
            vectors[~self.detector.hears(waveforms, lengths)] = torch.nan
        return vectors

    def _answers(self, pieces: list[Piece], enrolment: Enrolments | None) -> Tensor:
        """Returns probabilities or values of pieces, ``(B, K)``, adapted to the speaker if enrolled."""
        vectors = self._embed(pieces, speech=True)
        answers = with_company(self.classifier.answers, vectors)
        own = [enrolment_of(enrolment, piece.clip) for piece in pieces]
        if rows := [row for row, each in enumerate(own) if each]:
            some = next(each.offset for each in own if each)
            offsets = torch.stack([each.offset if each else some for each in own]).to(self.device)
            answers[rows] = with_company(self.classifier.answers, vectors, offsets)[rows]
        return answers

    @torch.inference_mode()
    def _offset(self, vectors: Tensor) -> Tensor:
        return self.classifier.offset(vectors.to(self.device)).cpu()

    def _enrolment(self, own: Drawn) -> Enrolment:
        return Enrolment(self._offset(_stacked(own)), len(own), frozenset(clip.key for clip in own))

    def _vectors(
        self, everything: Iterable[Clip], speech: bool = False
    ) -> Iterator[tuple[Clip, list[NDArray[np.float32]], str]]:
        """Embeds clips: each with the vectors of its pieces, with ``speech`` of those that hold some.

        Or with none and the reason.
        """
        compute = partial(self._embed, speech=speech)
        for pieces in by_clip(in_order(everything, compute, Plan(), self.device)):
            piece = pieces[-1][0]
            vectors = [] if piece.fault else [each for _, each in pieces if each is not None]
            yield piece.clip, [each for each in vectors if not np.isnan(each).any()], piece.fault

    def _readable(self, sources: Sources, root: Root, speech: bool = False) -> Drawn:
        """Embeds clips; raises for one that cannot be read, or for none."""
        found: Drawn = {}
        for clip, vectors, fault in self._vectors(clips(sources, root), speech):
            if fault:
                raise AudioError(fault)
            found[clip] = vectors
        if not found:
            raise ConfigError("got no recording at all; name files, folders or manifests")
        return found


def _stacked(own: Drawn) -> Tensor:
    """Returns the vectors of all pieces, ``(N, D)``."""
    return torch.from_numpy(np.stack([vector for vectors in own.values() for vector in vectors]))
