"""``annotate speakers``: one speaker embedding an utterance, as a column of a new manifest."""

import json
import math
import os
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto._version import __version__
from affetto.audio import decode, from_int16, to_int16
from affetto.config import Settings
from affetto.corpora.arrays import (
    SPEAKER_COLUMN,
    cell,
    content_hash,
    describe_array,
    open_array,
    vector_places,
    write_vectors,
)
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewArrayColumn
from affetto.errors import AudioError, ManifestError
from affetto.inference.embedding import packed, vectors_of_clips
from affetto.inference.loading import load_speaker
from affetto.inference.pipeline import Engine, Plan
from affetto.inference.sources import Clip, Samples, Windows, clips
from affetto.inference.writers import TEXT, VECTORS, Shards, write_npy
from affetto.members import file_stamp
from affetto.models.representation import Representation
from affetto.progress import progress
from affetto.runs import MANIFEST, RunFolder
from affetto.shards import Division, Shard, describe_part, refuse_other

_CHUNK_SECONDS = 1200.0  # several batches of 80 s for each core
_HASH = "content hash"
_GPU_BATCHES = 16  # a GPU computes so many at once
_Vectors = dict[str, NDArray[np.float32]]


class SpeakerSettings(Settings):
    """How ``annotate speakers`` embeds utterances."""

    encoder: str = "ge2e"  # or a FILE.onnx, or an x-vector model; see load_speaker
    name: NewArrayColumn = SPEAKER_COLUMN  # of the column, and of the array
    taper: Literal["povey", "hamming"] = "hamming"  # of an ONNX model's filterbanks; most others have povey


def annotate_speakers(
    manifest: str | Path | Manifest,
    settings: SpeakerSettings,
    out: str | Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    shard: str | None = None,
    engine: Engine | None = None,
) -> RunFolder:
    """Embeds the voice of every utterance, and writes a manifest with a column that names the vectors.

    The same call again continues where it was stopped. Utterances whose samples are equal are embedded once,
    and not at all where the manifest already has a vector of this encoder for them.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: which encoder, and the name of the column.
        out: the run folder: ``manifest.csv``, ``NAME.npy`` with a vector a row, ``NAME.json`` with what made
            them, ``meta.json`` with the utterances that could not be read. Their cells are empty.
        device: where the encoder runs, e.g. ``cpu`` or ``cuda``.
        workers: threads; None for one a core, at most 8.
        shard: ``"3/8"`` for the third of eight shares of the utterances; ``manifest.csv`` has these rows.
        engine: as of :func:`~affetto.inference.output.predict`.
    """
    manifest, division = Manifest.of(manifest), Division(Shard.read(shard))
    own = [clip for clip in clips(manifest) if division.takes(clip.file, clip.start, clip.end)]
    todo = {clip: _state(clip) for clip in own}
    run = RunFolder(out, "annotate speakers")
    with run.locked():
        array = Path(os.path.abspath(run / f"{settings.name}.npy"))
        types = {"hash": TEXT, **VECTORS, "error": TEXT}
        shards = Shards(array, types, run / f"{settings.name}.part", retry=True)
        facts = manifest.facts | ({"shard": shard, "listed": division.sha256} if shard else {})
        if run.done:
            refuse_other(array, division.shard)
        if run.done and not run.start(settings, **facts):
            shards.remove()  # where the last moment of the run was missing
            return run
        model = load_speaker(settings.encoder, device, settings.taper)
        known = _known(manifest, settings.name, model.sha256)
        run.start(settings, **facts, encoder_sha256=model.sha256)
        with shards.opened({}, lambda: _finish(run, manifest, settings, model, shards, todo, division)):
            _embed(model, shards, todo, known, Plan(workers=workers, engine=engine))
    return run


def _state(clip: Clip) -> str:
    """Identifies the state of an utterance without decoding it."""
    if clip.fault:
        raise ManifestError(clip.fault)
    return json.dumps([str(clip.sound), clip.start, clip.end, *file_stamp(Path(str(clip.sound)))])


def _known(manifest: Manifest, column: str, encoder_sha256: str) -> _Vectors:
    """Returns the vectors of the same encoder that the manifest names already, by content hash."""
    known: _Vectors = {}
    if column in manifest.table.columns:
        for file in {place[0] for place in vector_places(manifest, column) if place}:
            with suppress(ManifestError):  # computed again where the array is missing
                info = describe_array(file)
                if info["encoder_sha256"] == encoder_sha256:
                    known.update(zip(info["hashes"], open_array(file), strict=False))
    return known


def _embed(model: Representation, shards: Shards, todo: dict[Clip, str], known: _Vectors, plan: Plan) -> None:
    """Embeds what is not in the shards yet; equal samples once."""
    stored = {row["hash"] for chunk in shards.rows("hash", "count") for row in chunk if row["count"]}
    seen = {*stored, *known}

    def decode_and_hash(clip: Clip) -> Samples:
        try:
            samples = to_int16(decode(Path(str(clip.sound)), clip.start, clip.end))
        except AudioError as error:
            return str(error)
        clip.notes[_HASH] = content_hash(samples)  # comes back from other processes too
        return from_int16(samples)

    def wanted(clip: Clip) -> bool:
        fresh = clip.notes[_HASH] not in seen
        seen.add(clip.notes[_HASH])
        return fresh

    network = model.embedder or model.encoder
    assert network is not None
    windows = Windows(longest=getattr(network, "longest_seconds", None) or math.inf)
    batch = network.batch_seconds * (1 if model.device.type == "cpu" else _GPU_BATCHES)
    chunk = max(_CHUNK_SECONDS, batch)
    plan = replace(plan, windows=windows, chunk_seconds=chunk, batch_seconds=batch)
    plan = replace(plan, decode=decode_and_hash, wanted=wanted)
    rest = shards.rest(progress(todo, "embed", len(todo)), lambda clip: todo[clip])
    for piece, vector in vectors_of_clips(model, rest, plan):
        hashed = piece.clip.notes.pop(_HASH, "")
        vector = None if hashed in stored else known.get(hashed) if vector is None else vector
        if vector is not None:
            stored.add(hashed)
        row = {"hash": hashed or None, "error": piece.fault or None, **packed(vector)}
        shards.add(todo[piece.clip], row)


def _finish(
    run: RunFolder,
    manifest: Manifest,
    settings: SpeakerSettings,
    model: Representation,
    shards: Shards,
    todo: dict[Clip, str],
    division: Division,
) -> None:
    """Puts array, manifest and description in place."""
    place_of: dict[str, int] = {}
    found: dict[str, tuple[str, str]] = {}
    for row in chain.from_iterable(shards.rows("clip", "hash", "count", "error")):
        found[row["clip"]] = row["hash"], row["error"]
        if row["count"]:
            place_of[row["hash"]] = len(place_of)
    places, unreadable = [], {}
    for clip, state in todo.items():
        sound, fault = found[state]
        places.append(place_of.get(sound))
        if places[-1] is None:
            odd = f"{clip.sound!s}: {model.name} gives no finite embedding"
            unreadable[clip.utterance] = odd if sound else fault
    if not place_of and division.shard is None:
        first = next(iter(unreadable.values()), "there are none")
        raise ManifestError(
            f"none of the {len(manifest)} utterances can be embedded; the first: {first}; "
            "is the folder of the recordings right (--root)?"
        )
    info = {
        "encoder": model.name,
        "encoder_sha256": model.sha256,
        "weights_from_elsewhere": True,
        "speakers_seen": {"with_labels": "unknown", "without_labels": "unknown"},
        "settings": settings.model_dump(mode="json"),
        "affetto_version": __version__,
    }
    joined = shards.part / "vectors.npy"
    write_npy(joined, model.dim, shards)
    write_vectors(shards.output, np.load(joined, mmap_mode="r", allow_pickle=False), list(place_of), info)
    cells = [None if place is None else cell(shards.output, place) for place in places]
    column = pd.Series(None, manifest.table.index, dtype=object)
    column.iloc[division.places] = cells
    manifest.with_columns({settings.name: column}).write(run / MANIFEST, division.places)
    if division.shard is not None:
        alike = {"verb": "annotate speakers", "listed": division.sha256, "manifest_sha256": manifest.sha256}
        alike |= {"encoder_sha256": model.sha256, **settings.model_dump(mode="json")}
        describe_part(shards.output, division.shard, division.places, alike)
    meta = {"utterances": len(todo), "vectors": len(place_of), "column": settings.name}
    meta |= {"encoder": model.name, "manifest_sha256": manifest.sha256, "unreadable": unreadable}
    run.finish(meta)
