"""Columns of curves: a value a frame for every utterance, in arrays on disk.

Curves differ in length and are stored one after another in one array, ``(sum of frames, C)``; ``lengths`` in
``FILE.json`` is the number of frames of each, ``hop_seconds`` the step between frames.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.corpora.arrays import all_places, open_array, read_facts, save_array
from affetto.corpora.labels import Marks
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError, some

INTENSITY_COLUMN = "intensity"  # which ``affetto annotate intensity`` writes from emotion labels
VERB = "intensity"
_ALIKE = ("source", "source_sha256", "hop_seconds", "protocol", "folds")
_SHARE, _FRAMES = 0.05, 3  # by which the durations of a curve and of features may differ


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of a manifest, in its order."""

    info: dict[str, Any]  # what made them, as in FILE.json; of several files the labels of all
    keys: list[str]
    column: str
    _rows: list[NDArray[np.float32]]  # (T, C) each, on disk

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def hop_seconds(self) -> float:
        """Step between the frames of every curve."""
        return float(self.info["hop_seconds"])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each utterance, ``(N,)``."""
        return np.array([len(row) for row in self._rows], np.int64)

    @property
    def folds(self) -> list[int] | None:
        """The fold of each column; None where there is one column for all."""
        folds: list[int] | None = self.info["folds"]
        return folds

    def row(self, number: int, fold: int | None = None) -> NDArray[np.float32]:
        """Returns the curve of an utterance, ``(T,)``; the fold counts where each fold has its own curves."""
        return np.asarray(self._rows[number][:, self._column(fold)])

    def aligned(
        self, number: int, frames: int, frame_hop_seconds: float, fold: int | None = None
    ) -> NDArray[np.float32]:
        """Returns the curve of an utterance on the frames of features, ``(frames,)``; see :func:`aligned`."""
        key = self.keys[number]
        return aligned(self.row(number, fold), self.hop_seconds, frames, frame_hop_seconds, key=key)

    def speakers_with_labels(self, fold: int | None = None) -> list[str]:
        """Returns the speakers, ``corpus/speaker``, whose labels the curves of a fold rest on."""
        self._column(fold)
        return Marks.of_facts(self.info).speakers(fold)

    def check_protocol(self, protocol: str | None) -> None:
        """Raises ManifestError for curves made fold by fold of another protocol."""
        if self.folds is not None and protocol != self.info["protocol"]:
            raise ManifestError(
                f"the column {self.column!r} holds curves fold by fold of {self.info['protocol']}, and "
                f"{protocol or 'no protocol'} is asked for; ask for the first, name another column, or run "
                f"affetto annotate {VERB} with a protocol of one fold or with the one that is asked for"
            )

    def _column(self, fold: int | None) -> int:
        if self.folds is None:
            return 0
        if fold not in self.folds:
            raise ManifestError(
                f"the column {self.column!r} holds a curve for each of the folds {some(self.folds)} of "
                f"{self.info['protocol']}, and {'none' if fold is None else fold} was asked for; name one of "
                f"these, or run affetto annotate {VERB} with a protocol of one fold"
            )
        return self.folds.index(fold)


def write_curves(
    file: Path,
    values: NDArray[np.float32],
    lengths: Sequence[int] | NDArray[np.int64],
    hashes: Sequence[str],
    info: Mapping[str, Any],
) -> None:
    """Writes curves and their description, each atomically; what does not fit together is refused.

    ``values (sum of lengths, C)`` are all curves one after another. ``info`` has ``source``,
    ``source_sha256``, ``hop_seconds``, ``protocol``, ``folds`` (the C numbers, or None with one column) and
    ``speakers_seen`` with ``{"with_labels": {FOLD: [...]}, "without_labels": [...]}``, where FOLD is "" for
    one column.
    """
    folds = info["folds"]
    fits = values.ndim == 2 and values.shape == (sum(lengths), len(folds) if folds is not None else 1)
    if not fits or len(lengths) != len(hashes):
        raise ManifestError(
            f"got values of shape {values.shape}, {len(lengths)} lengths of {sum(lengths)} frames, "
            f"{len(hashes)} hashes and the folds {folds}; they must fit each other"
        )
    described = {**info, "lengths": [int(length) for length in lengths]}
    save_array(file, np.asarray(values, np.float32), hashes, described)


def read_curves(manifest: Manifest, column: str = INTENSITY_COLUMN) -> Curves:
    """Opens the curves that a column names, in the manifest's order; the arrays stay on disk."""
    files, places = all_places(manifest, column, VERB)
    if not files:
        raise ManifestError(f"the manifest has no rows, so that {column!r} says nothing of its curves")
    described = [describe_curves(file) for file in files]
    info = _one_source(column, described)
    arrays = []
    for file, facts in zip(files, described, strict=True):
        array, ends = open_array(file), np.cumsum(facts["lengths"], dtype=np.int64)
        shape = (int(ends[-1]), 1 if facts["folds"] is None else len(facts["folds"]))
        if array.shape != shape:
            raise ManifestError(
                f"{file} holds {array.shape}, and {file.stem}.json describes {shape}; they do not belong "
                f"together: run affetto annotate {VERB} again"
            )
        arrays.append(np.split(array.view(np.ndarray), ends[:-1]))
    for number, row in places.tolist():
        if row >= (count := len(arrays[number])):
            raise ManifestError(f"{files[number]} has {count} curves; the manifest asks for row {row}")
    rows = [arrays[number][row] for number, row in places.tolist()]
    return Curves(info, manifest.keys, column, rows)


def describe_curves(file: Path) -> dict[str, Any]:
    """Reads the description of an array of curves."""
    info = read_facts(file, again=f"run affetto annotate {VERB} again")
    if missing := [name for name in (*_ALIKE, "lengths", "speakers_seen") if name not in info]:
        raise ManifestError(
            f"{file.with_suffix('.json')} describes no curves, it lacks {some(missing)}; name a column that "
            f"affetto annotate {VERB} wrote"
        )
    return info


def _one_source(column: str, described: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns one description for all files, with the labels of all."""
    if len({json.dumps([info[name] for name in _ALIKE]) for info in described}) > 1:
        names = some(
            f"{info['source']} of {info['protocol'] or 'no protocol'}, every {info['hop_seconds']} s"
            for info in described
        )
        raise ManifestError(
            f"the column {column!r} holds curves of several sources ({names}), which mean different things; "
            f"run affetto annotate {VERB} on all rows with one (--model takes that of an earlier run)"
        )
    marks = reduce(or_, map(Marks.of_facts, described)).facts()
    without = sorted({name for info in described for name in info["speakers_seen"]["without_labels"]})
    return {**described[0], **marks, "speakers_seen": {**marks["speakers_seen"], "without_labels": without}}


def aligned(
    curve: NDArray[np.floating],
    hop_seconds: float,
    frames: int,
    frame_hop_seconds: float,
    *,
    key: str = "the utterance",
) -> NDArray[np.float32]:
    """Brings a curve onto the frames of features by straight lines between its values (Liu and Ma 2024).

    Value ``k`` of a curve is at ``(k + 1/2) hop_seconds``; before the first and past the last the curve stays
    as it is there. ``key`` is for errors.
    """
    duration, wanted = len(curve) * hop_seconds, frames * frame_hop_seconds
    slack = _SHARE * max(duration, wanted) + _FRAMES * max(hop_seconds, frame_hop_seconds)
    if not len(curve) or abs(duration - wanted) > slack:
        raise ManifestError(
            f"{key}: its curve lasts {duration:.2f} s and its features {wanted:.2f} s; the recording has "
            f"changed since, or the curve is of another: run affetto annotate {VERB} again"
        )
    if not np.isfinite(curve).all():
        message = f"its curve holds what is no finite number; run affetto annotate {VERB} again"
        raise ManifestError(f"{key}: {message}")
    places = (np.arange(frames) + 0.5) * (frame_hop_seconds / hop_seconds) - 0.5
    return np.asarray(np.interp(places, np.arange(len(curve)), curve), np.float32)
