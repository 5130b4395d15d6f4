"""Curves that lead masks: from the manifest's sidecars to the feature frames of an encoder."""

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affetto.corpora.arrays import vector_places
from affetto.corpora.curves import VERB, Curves, read_curves
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import some
from affetto.data import FeatureCache
from affetto.errors import LeakError
from affetto.features import FrontEnd
from affetto.material.recordings import Recordings
from affetto.protocols.protocol import load_protocol


class Labelled(NamedTuple):
    """Whose emotion labels curves rest on.

    Attributes:
        speakers: ``corpus/speaker``.
        unknown: whether weights from elsewhere took part, whose labels nobody knows.
    """

    speakers: list[str]
    unknown: bool


def known_curves(manifest: Manifest, column: str) -> Curves:
    """Returns the curves of the utterances that have one; what could not be read has none."""
    there = np.array([place is not None for place in vector_places(manifest, column, VERB)])
    return read_curves(manifest.where(there) if there.any() else manifest, column)


def curves_sha256(curves: Curves) -> str:
    """Returns the hash of curves of all folds: their values, lengths and step."""
    digest = hashlib.sha256(json.dumps([curves.hop_seconds, curves.lengths.tolist()]).encode())
    folds: list[int] | list[None] = curves.folds or [None]
    for number in range(len(curves)):
        for fold in folds:
            digest.update(np.ascontiguousarray(curves.row(number, fold)).data)
    return digest.hexdigest()


def labelled(curves: Curves, protocol: str | None, fold: int, tested: set[str]) -> Labelled:
    """Returns whose emotion labels the curves rest on.

    Args:
        curves: of a manifest's column.
        protocol: whose fold is pretrained on; None for none.
        fold: its number.
        tested: test speakers of the fold, ``corpus/speaker``; dev speakers may have been chosen on.

    Raises:
        LeakError: when labels of test speakers were seen.
        ManifestError: for curves that were made fold by fold of another protocol.
    """
    curves.check_protocol(None if protocol is None else load_protocol(protocol).name)
    seen = curves.speakers_with_labels(fold if curves.folds else None)
    if both := sorted(tested & set(seen)):
        raise LeakError(
            f"the curves in {curves.column!r} come from a model that saw emotion labels of speakers whom "
            f"fold {fold} of {protocol} tests: {some(both)}; make curves for it with affetto annotate "
            f"intensity --protocol {protocol}"
        )
    return Labelled(seen, bool(curves.info.get("weights_from_elsewhere")))


def guide(
    recordings: Recordings, rows: NDArray[np.int64], column: str, front_end: FrontEnd, fold: int
) -> FeatureCache:
    """Returns one number a feature frame for some utterances, and nothing for the others.

    Args:
        recordings: the utterances.
        rows: row numbers of those that take part.
        column: of curves.
        front_end: whose frames the curves are brought to.
        fold: its number, where curves were made fold by fold.

    Raises:
        ManifestError: for a missing column or sidecar, an empty cell, or a curve of another length than the
            utterance.
    """
    wanted = np.isin(np.arange(len(recordings.speakers)), rows)
    curves = read_curves(recordings.manifest.where(wanted), column)
    of_fold = fold if curves.folds else None
    place = np.cumsum(wanted) - 1

    def produce() -> Iterator[NDArray[np.float32]]:
        for row, length in enumerate(recordings.waveforms.lengths.tolist()):
            if not wanted[row]:
                yield np.zeros((0, 1), np.float32)
                continue
            frames = front_end.frame_count(length)
            yield curves.aligned(int(place[row]), frames, front_end.frame_seconds, of_fold)[:, None]

    named = [
        recordings.waveforms.folder.name,
        front_end.sha256,
        curves_sha256(curves),
        [column, of_fold],
        hashlib.sha256(wanted.tobytes()).hexdigest(),
    ]
    return FeatureCache.open(hashlib.sha256(json.dumps(named).encode()).hexdigest(), produce)
