"""Curves that lead masks: from the manifest's sidecars to the feature frames of an encoder."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from affetto.corpora.curves import Curves, read_curves
from affetto.corpora.tabular import some
from affetto.data import FeatureCache
from affetto.errors import LeakError
from affetto.features import FrontEnd
from affetto.masking import Guidance, prepared
from affetto.recipes.recordings import Recordings


def curves_sha256(curves: Curves) -> str:
    """Returns the hash of every value of curves, of all folds."""
    digest = hashlib.sha256()
    folds: list[int] | list[None] = curves.folds or [None]
    for number in range(len(curves)):
        for fold in folds:
            digest.update(np.ascontiguousarray(curves.row(number, fold)).data)
    return digest.hexdigest()


def labelled_speakers(curves: Curves, protocol: str | None, fold: int, tested: set[str]) -> list[str]:
    """Returns the speakers whose emotion labels the curves rest on, ``corpus/speaker``.

    Args:
        curves: of a manifest's column.
        protocol: whose fold is pretrained on; None for none.
        fold: its number.
        tested: test speakers of the fold, ``corpus/speaker``; dev speakers may have been chosen on.

    Raises:
        LeakError: when labels of test speakers were seen.
        ManifestError: for curves that were made fold by fold of another protocol.
    """
    curves.check_protocol(protocol)
    seen = curves.speakers_with_labels(fold if curves.folds else None)
    if both := sorted(tested & set(seen)):
        raise LeakError(
            f"the curves in {curves.column!r} come from a model that saw emotion labels of speakers whom "
            f"fold {fold} of {protocol} tests: {some(both)}; make curves for it with affetto annotate "
            f"intensity --protocol {protocol}"
        )
    return seen


def guide(
    recordings: Recordings,
    rows: NDArray[np.int64],
    column: str,
    front_end: FrontEnd,
    guidance: Guidance | None,
    fold: int,
) -> FeatureCache:
    """Returns one number a feature frame for some utterances, and nothing for the others.

    Args:
        recordings: the utterances.
        rows: row numbers of those that take part.
        column: of curves.
        front_end: whose frames the curves are brought to.
        guidance: what the curve is prepared for; None leaves it as it is.
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
            curve = curves.aligned(int(place[row]), frames, front_end.frame_seconds, of_fold)
            yield (curve if guidance is None else prepared(curve, guidance, row))[:, None]

    named = [
        recordings.waveforms.folder.name,
        front_end.sha256,
        curves_sha256(curves),
        [column, of_fold, guidance],
        hashlib.sha256(wanted.tobytes()).hexdigest(),
    ]
    return FeatureCache.open(hashlib.sha256(json.dumps(named).encode()).hexdigest(), produce)
