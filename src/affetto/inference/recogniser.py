"""The recogniser: emotions of recordings, over time, and adapted to a speaker."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE
from affetto.errors import AudioError, ConfigError
from affetto.inference.enrolment import All, Enrolment, Enrolments, Enrols, marked
from affetto.inference.pipeline import Plan, by_clip, in_order, whole
from affetto.inference.rows import RowFormat, Score, all_terms, chosen_terms, rows_of
from affetto.inference.segments import Cut, Segments
from affetto.inference.sources import (
    Clip,
    Piece,
    Root,
    Source,
    Sources,
    Windows,
    clips,
    is_recording,
    windows_of_stream,
)
from affetto.models.checkpoint import find_recogniser, weights_sha256
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.encoder import chosen_device
from affetto.models.speech import load_speech_detector
from affetto.tables import Row

if TYPE_CHECKING:
    import pandas as pd


class Recogniser(Enrols):
    """Recognises emotions in speech: classes, or dimensions such as valence, as it was trained.

    A recording longer than a minute is scored in parts of 30 s, and the mean of their probabilities, weighted
    by their lengths, is given. :meth:`timeline` shows how they change. Safe to use from several threads.
    A recording without speech gets no emotion, unless ``any_sound`` asks for it. ``config`` is the content
    of the network's ``config.json``.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        config: Mapping[str, Any],
        device: str = "auto",
        *,
        any_sound: bool = False,
    ) -> None:
        self.device = chosen_device(device)
        self.classifier = classifier.to(self.device).eval()
        self.detector = None if any_sound else load_speech_detector().to(self.device)
        self.config = dict(config)
        self._all = RowFormat(list(classifier.settings.labels), classifier.settings.output == "values")
        self.format, self.terms = self._all, all_terms(self._all)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "small",
        *,
        device: str = "auto",
        revision: str | None = None,
        encoder: str | Path | None = None,
        any_sound: bool = False,
    ) -> "Recogniser":
        """Loads ``"small"``, ``"base"``, a folder that ``finetune`` wrote, or an id on the Hugging Face hub.

        ``device`` is where it runs, e.g. ``"cuda"``; ``revision`` a branch, tag or commit on the hub;
        ``encoder`` the folder of the model that ``"base"`` needs, in place of the hub; ``any_sound`` whether
        it answers where there is no speech. Never loads a pickle. A CheckpointError names a recogniser that
        is not found, damaged, partial, or of another kind.
        """
        loaded = load_classifier(find_recogniser(name, revision), str(encoder or ""))
        return cls(*loaded, device, any_sound=any_sound)

    def answering(
        self,
        classes: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        withhold: float | str | None = None,
    ) -> "Recogniser":
        """Returns a recogniser with the same network whose answers are fitted to a use.

        Args:
            classes: the classes that may be answered, at least two; their probabilities add up to 1.
            prior: how frequent classes are, e.g. ``{"anger": 0.1}``; the others have equal shares of the
                rest. The network was made to take all as equally frequent.
            withhold: the confidence under which an answer is withheld; or the share of the answers on dev
                that were under it, e.g. ``"20%"``.

        Raises:
            ConfigError: for an unknown class, a prior that does not add up, a share with classes or a prior,
                or a recogniser of dimensions.
        """
        other = copy(self)
        other.terms = chosen_terms(self._all, classes, prior, withhold, self.config.get("withholding", {}))
        other.format = RowFormat([self._all.labels[place] for place in other.terms.places], self._all.values)
        return other

    @property
    def labels(self) -> list[str]:
        """The classes that may be answered, or the dimensions."""
        return self.format.labels

    @property
    def speaker_dependent(self) -> bool:
        """Whether it was measured on speakers that it was trained on."""
        return bool(self.config.get("speaker_dependent", False))

    @property
    def sha256(self) -> str:
        """Hash over the network's description and weights; not over where published weights were found."""
        shape = repr(self.classifier.settings)
        return hashlib.sha256((shape + weights_sha256(self.classifier)).encode()).hexdigest()

    def columns(self, enrolled: bool = False, speakers: bool = False) -> list[str]:
        """Returns the columns of its tables; more where speakers are enrolled or shown."""
        return list(self.format.types(enrolled, speakers))

    def from_audio(
        self, samples: NDArray[Any], rate: int = SAMPLE_RATE, *, enrolment: Enrolment | None = None
    ) -> list[Score]:
        """Scores ``(S,)``, ``(channels, S)`` or ``(S, channels)``, floats in ±1 or integers, as a file.

        Raises:
            AudioError: for an array without samples, with NaN, or of another shape.
        """
        return self._scores(Clip("the array", (np.asarray(samples), rate)), enrolment)

    def from_file(
        self,
        source: str | Path | bytes | BinaryIO,
        start: float | None = None,
        end: float | None = None,
        *,
        enrolment: Enrolment | None = None,
    ) -> list[Score]:
        """Scores a recording, or its part from second ``start`` to ``end``; ``enrolment`` of its speaker.

        Returns every class with its probability, the likeliest first; or every dimension with its value. The
        one score of a recording without speech is that of ``unknown``.

        Raises:
            AudioError: as :func:`affetto.audio.decode` does.
        """
        clip = Clip(str(source), Path(source)) if isinstance(source, str | Path) else next(clips(source))
        return self._scores(replace(clip, start=start, end=end), enrolment)

    def files(
        self,
        sources: Sources,
        *,
        root: Root = None,
        window: float | None = None,
        hop: float | None = None,
        segments: Segments | None = None,
        split: bool = False,
        channel: int | None = None,
        enrolment: Enrolments | int | All | None = None,
        workers: int | None = None,
    ) -> Iterator[Row]:
        """Predicts any number of recordings, in memory that does not grow with them.

        Yields rows in the order of the sources; ``error`` says why a recording cannot be read, ``withheld``
        why its label is ``unknown``.

        Args:
            sources: recordings, folders, manifests.
            root: the folder that a manifest's file names are relative to.
            window: seconds of a window, for a row each; None for one row a recording.
            hop: seconds from one window to the next; half a window when None.
            segments: for a row each, a file of them or :class:`~affetto.inference.segments.Segment`; the
                column ``speaker`` has the names of their speakers.
            split: whether to find segments by voice activity, for a row each.
            channel: the only channel to read, counted from 1; None for all, mixed.
            enrolment: of the speaker, or of several by name, or how many utterances to enrol of each speaker;
                these get a row without a label. ``"all"`` enrols all of each speaker, and scores them too.
            workers: threads; None for one a core.
        """
        plan = Plan(Windows(window, hop), workers)
        everything = Cut(sources, root, segments, split, channel)
        if isinstance(enrolment, int | str):
            enrolment = self.enrol_cut(everything, enrolment)
        rows = self.rows(everything, plan, enrolment, speakers=everything.in_segments)
        yield from (row for _, row in rows)

    def predict(
        self,
        source: Sources | NDArray[Any],
        rate: int | None = None,
        *,
        root: Root = None,
        segments: Segments | None = None,
        split: bool = False,
        channel: int | None = None,
        enrolment: Enrolments | int | All | None = None,
    ) -> "list[Score] | pd.DataFrame":
        """Predicts one recording, as :meth:`from_file`, or several or segments, as a table of :meth:`files`.

        Args:
            source: a path, bytes, an open file, an array, a folder, a manifest or its path, or several.
            rate: samples per second of an array.
            root: see :meth:`files`, also for ``segments``, ``split`` and ``enrolment``.
            segments: for a row each.
            split: whether to find segments.
            channel: the only channel to read, counted from 1.
            enrolment: of the speaker.

        Raises:
            AudioError: for a single recording that cannot be read; among several its row has an ``error``.
        """
        if hasattr(source, "shape"):
            if rate is None:
                raise ConfigError("an array needs its rate: predict(array, rate)")
            source = (np.asarray(source), rate)
        in_segments = split or segments is not None
        if is_recording(source) and not in_segments:
            return self._scores(next(clips(source, root, channel)), enrolment)
        rows = self.files(
            source, root=root, segments=segments, split=split, channel=channel, enrolment=enrolment
        )
        return self._table(rows, enrolment, in_segments)

    def timeline(
        self, source: Source, window: float = 2.0, hop: float = 1.0, *, enrolment: Enrolment | None = None
    ) -> "pd.DataFrame":
        """Predicts one recording by windows, as :meth:`files`; :func:`affetto.plots.timeline` draws it.

        Raises:
            AudioError: when it cannot be read to its end.
        """
        if not is_recording(source):
            raise ConfigError(
                "a timeline follows one recording; predict() takes several, files(window=...) both"
            )
        rows = list(self.files(source, window=window, hop=hop, enrolment=enrolment))
        if rows[-1]["error"]:
            raise AudioError(rows[-1]["error"])
        return self._table(rows, enrolment)

    def stream(
        self,
        blocks: Iterable[NDArray[Any]],
        rate: int = SAMPLE_RATE,
        window: float = 2.0,
        hop: float = 1.0,
        *,
        enrolment: Enrolment | None = None,
    ) -> Iterator[Row]:
        """Predicts sound as it comes: a row for every window, as soon as it is complete.

        The rows are those that :meth:`files` gives for a recording of the same samples. Memory does not grow.

        Args:
            blocks: samples of any length and in any form that :meth:`from_audio` takes, also without end.
            rate: samples per second.
            window: seconds of a window; the first row comes after one.
            hop: seconds from one window to the next.
            enrolment: of the speaker.
        """
        plan = Plan(Windows(window, hop), workers=0, chunk_seconds=window)
        for clip in windows_of_stream(blocks, rate, plan.windows):
            yield from (row for _, row in self.rows([clip], plan, enrolment))

    def rows(
        self, everything: Iterable[Clip], plan: Plan, enrolment: Enrolments | None, *, speakers: bool = False
    ) -> Iterator[tuple[Piece, Row]]:
        """Yields a row for each clip, or with windows for each piece; :meth:`files` and ``predict``."""
        if enrolment is not None:
            self.classifier.must_adapt()
        compute = partial(self._answers, enrolment=enrolment)
        computed = in_order(marked(everything, enrolment), compute, plan, self.device)
        if plan.windows.length is None:
            computed = map(whole, by_clip(computed))
        return rows_of(computed, self.format, self.terms, enrolment, speakers)

    def _scores(self, clip: Clip, enrolment: object) -> list[Score]:
        if not isinstance(enrolment, Enrolment | None):
            raise ConfigError("one recording needs the enrolment of its speaker, as enrol() gives it")
        if enrolment is not None:  # scored even where the speaker was enrolled with it
            enrolment = replace(enrolment, used=frozenset())
        ((_, row),) = self.rows([clip], Plan(workers=0), enrolment)
        if row["error"]:
            raise AudioError(row["error"])
        return self.format.scores(row)

    def _table(self, rows: Iterable[Row], enrolment: object, speakers: bool = False) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame(rows, columns=self.columns(enrolment is not None, speakers))
