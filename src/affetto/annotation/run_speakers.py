"""``annotate speakers``: one speaker embedding an utterance, as a column of a new manifest."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto._version import __version__
from affetto.annotation.embedding import Embedding, utterances
from affetto.annotation.speakers import load_encoder
from affetto.annotation.vector_log import VectorLog
from affetto.config import Settings
from affetto.corpora.arrays import (
    SPEAKER_COLUMN,
    cell,
    describe_array,
    open_array,
    vector_places,
    write_vectors,
)
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewArrayColumn
from affetto.errors import ManifestError
from affetto.progress import progress
from affetto.runs import MANIFEST, RunFolder


class SpeakerSettings(Settings):
    """How ``annotate speakers`` embeds utterances.

    Attributes:
        encoder: ``ge2e``, the path of an ``.onnx`` file, or an x-vector model of transformers; see
            :func:`~affetto.annotation.speakers.load_encoder`.
        name: of the column, and of the array beside the manifest.
        taper: window of the filterbanks of an ONNX model: ``hamming`` for WeSpeaker, else mostly ``povey``.
    """

    encoder: str = "ge2e"
    name: NewArrayColumn = SPEAKER_COLUMN
    taper: Literal["povey", "hamming"] = "hamming"


def annotate_speakers(
    manifest: str | Path | Manifest,
    settings: SpeakerSettings,
    out: str | Path,
    *,
    device: str = "cpu",
    workers: int | None = None,
) -> RunFolder:
    """Embeds the voice of every utterance, and writes a manifest with a column that names the vectors.

    What is embedded stays: the same call again goes on where it stopped. Utterances that sound the same, or
    that the manifest already has a vector of this encoder for, are not embedded again.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: which encoder, and the name of the column.
        out: the run folder.
        device: where the encoder runs, e.g. ``cpu`` or ``cuda``.
        workers: threads; None for one a core, at most 8.

    Returns:
        The run folder: ``manifest.csv``, ``NAME.npy`` with a vector a row, ``NAME.json`` which says what made
        them, ``meta.json`` with the utterances that could not be read. Their cells are empty.

    Raises:
        ManifestError: when not one utterance can be read.
        RunError: when the folder is in use or holds other settings.
    """
    manifest = Manifest.of(manifest)
    todo = utterances(manifest)
    run = RunFolder(out, "annotate speakers")
    with run.locked():
        facts = manifest.facts
        part = run / f"{settings.name}.part"
        if run.done and not run.start(settings, **facts):
            VectorLog(part, 0).remove()  # where the last moment of the run was missing
            return run
        encoder = load_encoder(settings.encoder, device, settings.taper)
        known = _known(manifest, settings.name, encoder.sha256)
        run.start(settings, **facts, encoder_sha256=encoder.sha256)
        log = VectorLog(part, encoder.dim)
        with log.opened():
            work = Embedding(encoder, log, known, workers)
            for _ in progress(work.through(todo), "embed", total=len(todo)):
                pass
            _finish(run, manifest, settings, work, [log.hash_of.get(each.identity) for each in todo])
        log.remove()
    return run


def _known(manifest: Manifest, column: str, encoder_sha256: str) -> dict[str, NDArray[np.float32]]:
    """Returns the vectors of the same encoder that the manifest names already, by content hash."""
    known: dict[str, NDArray[np.float32]] = {}
    if column in manifest.table.columns:
        for file in {place[0] for place in vector_places(manifest, column) if place}:
            with suppress(ManifestError):  # what is gone is made anew
                info = describe_array(file)
                if info["encoder_sha256"] == encoder_sha256:
                    known.update(zip(info["hashes"], open_array(file), strict=False))
    return known


def _finish(
    run: RunFolder, manifest: Manifest, settings: SpeakerSettings, work: Embedding, hashes: list[str | None]
) -> None:
    """Puts array, manifest and description in place."""
    if not work.log.row:
        first = next(iter(work.faults.values()), "there are none")
        raise ManifestError(
            f"none of the {len(manifest)} utterances can be embedded; the first: {first}; "
            "is the folder of the recordings right (--root)?"
        )
    array = Path(os.path.abspath(run / f"{settings.name}.npy"))
    info = {
        "encoder": work.encoder.name,
        "encoder_sha256": work.encoder.sha256,
        "weights_from_elsewhere": True,
        "speakers_seen": {"with_labels": "unknown", "without_labels": "unknown"},
        "settings": settings.model_dump(mode="json"),
        "affetto_version": __version__,
    }
    write_vectors(array, work.log.vectors(), list(work.log.row), info)
    cells = [None if each is None else cell(array, work.log.row[each]) for each in hashes]
    column = pd.Series(cells, manifest.table.index, dtype=object)
    manifest.with_columns({settings.name: column}).write(run / MANIFEST)
    run.finish(
        {
            "utterances": len(manifest),
            "vectors": len(work.log.row),
            "column": settings.name,
            "encoder": work.encoder.name,
            "manifest_sha256": manifest.sha256,
            "unreadable": work.faults,
        }
    )
