"""Columns that the tasks need: checked, read once and hashed before training starts."""

import hashlib
import json
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.corpora.arrays import all_places, read_vectors, vector_places
from affetto.corpora.curves import INTENSITY_COLUMN, VERB, read_curves
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import lacks
from affetto.data import FeatureCache
from affetto.errors import LeakError, ManifestError, some
from affetto.features import FrontEnd
from affetto.masking import CURVES
from affetto.material.recordings import Recordings
from affetto.pretraining.settings import PretrainSettings, VectorSettings
from affetto.protocols.protocol import load_protocol
from affetto.vectors.spaces import Contents, centred, directions


class PlainColumn:
    """A column of a manifest as a column of batches."""

    columns: list[str]  # of the manifest, that it is made from
    sha256: str  # of what was read
    groups = False

    def __init__(self, manifest: Manifest, column: str, verb: str) -> None:
        """Reads numbers as they are, and numbers other values, and groups: -1 for an empty cell."""
        table, self.columns, self.keys = manifest.table, [column], pd.Index(manifest.keys)
        if column not in table:
            raise ManifestError(
                f"the manifest has no column {column!r} to take groups from; run affetto {verb}, or name "
                "another column"
                if self.groups
                else f"{lacks(column, table.columns)}; affetto {verb} makes such a column"
            )
        if table[column].isna().all():
            raise ManifestError(f"the column {column!r} is empty in every row; run affetto {verb}")
        numeric = pd.api.types.is_numeric_dtype(table[column]) and not self.groups
        values = table[column] if numeric else pd.factorize(table[column], sort=True)[0]
        self.values = np.asarray(values, np.float32 if numeric else np.int64)
        text = [column, *table[column].astype(str)]
        self.sha256 = hashlib.sha256(json.dumps(text).encode()).hexdigest()

    def _places(self, recordings: Recordings) -> NDArray[np.int64]:
        return np.asarray(self.keys.get_indexer(pd.Index(recordings.manifest.keys)), np.int64)

    def of(self, recordings: Recordings, rows: NDArray[np.int64]) -> Tensor:
        """Returns values of all recordings, ``(N, ...)``, of which only ``rows`` are used."""
        values = self.values[self._places(recordings)]
        if empty := int(np.isnan(values[rows]).sum()):
            raise ManifestError(
                f"the column {self.columns[0]!r} is empty in {empty} rows; leave these rows out"
            )
        return torch.from_numpy(values)


class GroupColumn(PlainColumn):
    """Groups of utterances, which contrastive learning takes as positives."""

    groups = True


class VectorColumn(PlainColumn):
    """Speaker-centred vectors in their principal directions, computed from the rows that are trained on."""

    def __init__(self, manifest: Manifest, settings: VectorSettings, verb: str) -> None:
        self.keys, self.settings = pd.Index(manifest.keys), settings
        self.columns = [settings.column, *([settings.content] if settings.content else [])]
        self.vectors = read_vectors(manifest, settings.column, settings.encoder)
        self.contents = Contents(manifest, settings.content) if settings.content else None
        digest = hashlib.sha256(np.ascontiguousarray(self.vectors).data)
        digest.update(self.contents.bytes() if self.contents else b"")
        self.sha256 = digest.hexdigest()

    def of(self, recordings: Recordings, rows: NDArray[np.int64]) -> Tensor:
        """Returns vectors of all recordings, ``(N, dims)``, zero outside ``rows``."""
        settings, places = self.settings, self._places(recordings)[rows]
        speakers = np.unique(recordings.speakers[rows], return_inverse=True)[1]
        values = centred(self.vectors[places], speakers if settings.centre else np.zeros_like(speakers))
        kinds = self.contents.numbers(speakers, places) if self.contents else None
        projected = directions(values, speakers, kinds, settings.dims, settings.whiten)
        column = torch.zeros(len(recordings.speakers), projected.shape[1])
        column[torch.from_numpy(rows)] = torch.from_numpy(projected).float()
        return column


class CurveColumn(PlainColumn):
    """Curves, one number a feature frame; what could not be read when they were made has none."""

    def __init__(self, manifest: Manifest, column: str, verb: str) -> None:
        there = vector_places(manifest, column, VERB)[1][:, 0] >= 0
        known = manifest.where(there) if there.any() else manifest
        self.keys, self.columns, self.curves = pd.Index(known.keys), [column], read_curves(known, column)
        digest = hashlib.sha256(json.dumps([self.curves.hop_seconds, self.curves.lengths.tolist()]).encode())
        for number in range(len(self.curves)):
            for fold in self.curves.folds or [1]:  # of one curve for all folds, any fold is that one
                digest.update(np.ascontiguousarray(self.curves.row(number, fold)).data)
        self.sha256 = digest.hexdigest()

    def check(self, protocol: str | None, fold: int, tested: Set[str]) -> None:
        """Refuses curves that rest on labels of speakers whom the fold tests, or fit another protocol."""
        self.curves.check_protocol(None if protocol is None else load_protocol(protocol).name)
        if both := sorted(tested & set(self.curves.speakers_with_labels(fold))):
            raise LeakError(
                f"the curves in {self.columns[0]!r} come from a model that saw emotion labels of speakers "
                f"whom fold {fold} of {protocol} tests: {some(both)}; make curves for it with affetto "
                f"annotate intensity --protocol {protocol}"
            )

    def on_frames(
        self, recordings: Recordings, rows: NDArray[np.int64], front_end: FrontEnd, fold: int
    ) -> FeatureCache:
        """Returns the curves of some rows on the frames of a front end, and nothing for the others."""
        wanted, places = np.isin(np.arange(len(recordings.speakers)), rows), self._places(recordings).tolist()
        all_places(recordings.manifest.where(wanted), self.columns[0], VERB)

        def produce() -> Iterator[NDArray[np.float32]]:
            for row, length in enumerate(recordings.waveforms.lengths.tolist()):
                if not wanted[row]:
                    yield np.zeros((0, 1), np.float32)
                    continue
                frames = front_end.frame_count(length)
                yield self.curves.aligned(places[row], frames, front_end.frame_seconds, fold)[:, None]

        named = [recordings.waveforms.name, front_end.sha256, self.sha256, fold, wanted.tolist()]
        return FeatureCache.open(hashlib.sha256(json.dumps(named).encode()).hexdigest(), produce)


def task_columns(manifest: Manifest, settings: PretrainSettings) -> dict[str, PlainColumn]:
    """Reads what the tasks ask of a batch, besides speakers; refuses a missing column with its verb."""
    manifest.require("speaker")
    masking = settings.masking
    by_intensity = CURVES.get(masking.guidance) == INTENSITY_COLUMN
    places: dict[str, tuple[type[PlainColumn], Any]] = {
        "group": (GroupColumn, settings.groups),
        "vector": (VectorColumn, settings.vectors),
        "guide": (CurveColumn, masking.curve),
        "intensity": (CurveColumn, masking.curve if by_intensity else INTENSITY_COLUMN),
    }
    read: dict[Any, PlainColumn] = {}
    found = {}
    for name, verb in settings.needs.items():
        if name != "speaker":
            kind, column = key = places.get(name, (PlainColumn, name))
            found[name] = read[key] = read.get(key) or kind(manifest, column, verb)
    return found
