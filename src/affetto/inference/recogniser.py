"""The recogniser: emotions of recordings, over time, and adapted to a speaker."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.errors import AudioError, ConfigError
from affetto.inference.enrolment import Draw, Enrolment, Enrolments, marked, vectors_of
from affetto.inference.pipeline import in_order
from affetto.inference.rows import Answer, Predicted, Row, Score, mean, rows_of
from affetto.inference.scorer import Scorer
from affetto.inference.sources import Clip, Source, clips, cut, decoded, is_recording
from affetto.models.checkpoint import weights_sha256
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.folders import find_recogniser

if TYPE_CHECKING:
    import pandas as pd


class Recogniser:
    """Recognises emotions in speech: classes, or dimensions such as valence, as it was trained.

    A recording longer than a minute is no utterance: it is scored in parts of 30 s, and the mean of their
    probabilities, each counted by its length, is given. :meth:`timeline` shows how they change.

    Args:
        classifier: the network.
        config: what its ``config.json`` holds.
        device: where the network runs.
    """

    def __init__(self, classifier: EmotionClassifier, config: Mapping[str, Any], device: str = "cpu") -> None:
        self._scorer = Scorer(classifier, device)
        self.classifier = self._scorer.classifier
        self.config = dict(config)
        self.labels = list(classifier.settings.labels)
        self.answer = Answer(self.labels, classifier.settings.output == "values")

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, device: str = "cpu", revision: str | None = None
    ) -> "Recogniser":
        """Loads a recogniser; strictly, and never a pickle.

        Args:
            name: the folder that ``finetune`` wrote, or an id on the Hugging Face hub.
            device: where the network runs, e.g. ``"cuda"``.
            revision: branch, tag or commit on the hub.

        Raises:
            CheckpointError: where it is not found, damaged, partial, or of another kind.
        """
        return cls(*load_classifier(find_recogniser(name, revision)), device)

    @property
    def speaker_dependent(self) -> bool:
        """Whether it was measured on speakers that it was trained on."""
        return bool(self.config.get("speaker_dependent", False))

    @property
    def sha256(self) -> str:
        """Hash over the network's description and weights."""
        parts = self.classifier.settings.model_dump_json() + weights_sha256(self.classifier)
        return hashlib.sha256(parts.encode()).hexdigest()

    def columns(self, enrolled: bool = False) -> list[str]:
        """Returns the columns of its tables; two more where speakers are enrolled."""
        return self.answer.columns(enrolled)

    def from_audio(
        self, samples: NDArray[Any], rate: int = SAMPLE_RATE, *, enrolment: Enrolment | None = None
    ) -> list[Score]:
        """Scores an array.

        Args:
            samples: ``(S,)``, ``(channels, S)`` or ``(S, channels)``; floats in ±1 or integers.
            rate: samples per second.
            enrolment: of its speaker.

        Returns:
            Every class with its probability, the likeliest first; or every dimension with its value.

        Raises:
            AudioError: for an array without samples, with NaN, or of another shape.
        """
        return self._single(Clip("the array", (np.asarray(samples), rate)), enrolment)

    def from_file(
        self,
        source: str | Path | bytes | BinaryIO,
        start: float | None = None,
        end: float | None = None,
        *,
        enrolment: Enrolment | None = None,
    ) -> list[Score]:
        """Scores a recording, or a part of it; see :func:`affetto.audio.decode` for the errors.

        Args:
            source: a path, the bytes of a file, or an open binary file.
            start: first second of the part.
            end: second at which it stops.
            enrolment: of its speaker.

        Returns:
            Every class with its probability, the likeliest first; or every dimension with its value.
        """
        if isinstance(source, str | Path):
            return self._single(Clip(str(source), Path(source), start, end), enrolment)
        clip = next(clips(source))
        return self._single(replace(clip, start=start, end=end), enrolment)

    def files(
        self,
        sources: Source | Iterable[Source],
        *,
        root: str | Path | None = None,
        window: float | None = None,
        hop: float | None = None,
        enrolment: Enrolments | int | None = None,
        workers: int | None = None,
    ) -> Iterator[Row]:
        """Predicts any number of recordings, in memory that does not grow with them.

        Args:
            sources: recordings, folders, manifests.
            root: the folder that a manifest's file names are relative to.
            window: seconds of a window, for a row each; None for one row a recording.
            hop: seconds from one window to the next; half a window when None.
            enrolment: of the speaker, or of several by name, or how many utterances to enrol of each speaker
                of a manifest. Utterances that were enrolled get a row without a label.
            workers: threads; None for one a core.

        Yields:
            Rows in the order of the sources, as :meth:`columns` has them. For a recording that cannot be read
            the label is missing, and ``error`` says why.
        """
        if isinstance(enrolment, int):  # the sources are gone through twice
            sources = list(sources) if isinstance(sources, Iterator) else sources
            enrolment = self.enrol_speakers(sources, enrolment, root=root)
        for predicted in self.predicted(clips(sources, root), window, hop, enrolment, workers):
            yield from predicted.rows

    def predict(
        self,
        source: Source | NDArray[Any] | Iterable[Source],
        rate: int | None = None,
        *,
        root: str | Path | None = None,
        enrolment: Enrolments | int | None = None,
    ) -> "list[Score] | pd.DataFrame":
        """Predicts whatever it is given.

        Args:
            source: a path, bytes, an open file, an array, a folder, a manifest or its path, or several.
            rate: samples per second of an array.
            root: the folder that a manifest's file names are relative to.
            enrolment: see :meth:`files`.

        Returns:
            For one recording every class with its probability, the likeliest first; for several a table as
            :meth:`files` gives it.

        Raises:
            AudioError: for a single recording that cannot be read; among several its row has an ``error``.
        """
        if hasattr(source, "shape"):
            if rate is None:
                raise ConfigError("an array needs its rate: predict(array, rate)")
            source = (np.asarray(source), rate)
        if is_recording(source):
            return self._single(next(clips(source, root)), enrolment)
        import pandas as pd

        rows = self.files(source, root=root, enrolment=enrolment)
        return pd.DataFrame(rows, columns=self.columns(enrolment is not None))

    def timeline(
        self,
        source: Source,
        window: float = 2.0,
        hop: float = 1.0,
        *,
        enrolment: Enrolment | None = None,
    ) -> "pd.DataFrame":
        """Follows a recording through time; an hour takes no more memory than a minute.

        Args:
            source: one recording.
            window: seconds of a window; the last is what remains.
            hop: seconds from one window to the next.
            enrolment: of its speaker.

        Returns:
            A row a window, as :meth:`files` has them; :func:`affetto.plots.timeline` draws it.

        Raises:
            AudioError: when it cannot be read to its end.
        """
        import pandas as pd

        if not is_recording(source):
            raise ConfigError(
                "a timeline follows one recording; predict() takes several, files(window=...) both"
            )
        rows = list(self.files(source, window=window, hop=hop, enrolment=enrolment))
        if rows[-1]["error"]:
            raise AudioError(rows[-1]["error"])
        return pd.DataFrame(rows, columns=self.columns(enrolment is not None))

    def embed(self, sources: Source | Iterable[Source], *, root: str | Path | None = None) -> Tensor:
        """Returns the vectors of recordings, ``(N, D)``, from which a speaker can be enrolled.

        Raises:
            AudioError: for the first that cannot be read.
        """
        return self._scorer.readable(clips(sources, root))[1]

    def enrol(
        self, sources: Source | Iterable[Source] | Tensor, *, root: str | Path | None = None
    ) -> Enrolment:
        """Learns how a speaker sounds from unlabelled utterances; ten of mixed mood do well.

        Args:
            sources: utterances of one speaker, or their vectors ``(N, D)`` from :meth:`embed`.
            root: the folder that a manifest's file names are relative to.

        Returns:
            What the argument ``enrolment`` of the other methods takes.

        Raises:
            AudioError: for an utterance that cannot be read.
            ConfigError: when the recogniser was made without enrolment.
        """
        self._scorer.must_adapt()
        if isinstance(sources, Tensor):
            return Enrolment(self._scorer.offset(sources), len(sources))
        used, vectors = self._scorer.readable(clips(sources, root))
        return Enrolment(self._scorer.offset(vectors), len(used), frozenset(clip.key for clip in used))

    def enrol_speakers(
        self, sources: Source | Iterable[Source], utterances: int, *, root: str | Path | None = None
    ) -> dict[str, Enrolment]:
        """Enrols every speaker of a manifest from that many utterances, drawn the same way every time.

        An utterance that cannot be read is replaced by another of that speaker. Whoever would have none left
        to score is not enrolled.

        Args:
            sources: manifests with speakers.
            utterances: how many of each speaker.
            root: the folder that file names are relative to.

        Returns:
            Enrolments by ``corpus/speaker``.

        Raises:
            ConfigError: when no speaker is named, or the recogniser was made without enrolment.
        """
        self._scorer.must_adapt()
        draw = Draw(clips(sources, root), utterances)
        while wanted := draw.wanted():
            for clip, vectors, _ in vectors_of(in_order(wanted, self._scorer.vectors)):
                draw.take(clip, vectors)
        return {
            speaker: Enrolment(self._scorer.offset(torch.from_numpy(np.stack(vectors))), utterances, used)
            for speaker, vectors, used in draw.complete()
        }

    def predicted(
        self,
        everything: Iterable[Clip],
        window: float | None = None,
        hop: float | None = None,
        enrolment: Enrolments | None = None,
        workers: int | None = None,
        count: int = 0,
    ) -> Iterator[Predicted]:
        """Yields rows clip by clip: what :meth:`files` and the writing of tables share.

        ``count`` is how many clips there are, at least, where that is known.
        """
        hop = checked_hop(window, hop)
        if enrolment is not None:
            self._scorer.must_adapt()
        results = in_order(
            marked(everything, enrolment),
            lambda pieces: self._scorer.answers(pieces, enrolment),
            window,
            hop,
            workers,
            count=count if self._scorer.device.type == "cpu" else 0,
        )
        return rows_of(results, self.answer, window is not None, enrolment)

    def _single(self, clip: Clip, enrolment: object) -> list[Score]:
        if not isinstance(enrolment, Enrolment | None):
            raise ConfigError("one recording needs the enrolment of its speaker, as enrol() gives it")
        if enrolment is not None:
            self._scorer.must_adapt()
        parts = []
        for piece in cut(clip, decoded(clip)):
            if piece.samples is None:
                raise AudioError(piece.fault)
            row = self._scorer.answers([piece], enrolment)[0].cpu().numpy()
            parts.append((replace(piece, samples=None), row))
        return self.answer.scores(mean(parts))


def checked_hop(window: float | None, hop: float | None) -> float | None:
    """Returns the hop between windows, half a window where none is given.

    Raises:
        ConfigError: for a hop without a window, or one that leaves gaps.
    """
    if window is None:
        if hop is not None:
            raise ConfigError(f"got a hop of {hop} s without a window; name both")
        return None
    hop = window / 2 if hop is None else hop
    if not 0 < hop <= window:
        raise ConfigError(
            f"got windows of {window} s every {hop} s; the hop must be above 0 and at most a window"
        )
    return hop
