"""``annotate speakers``: one speaker embedding an utterance, as a column of a new manifest."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
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
_Places = dict[str, tuple[NDArray[np.float32], int]]
_STATE, _SOUND = "S32", "S64"  # hashes of states and of samples, as text


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
    taken = bytearray(division.takes(clip.file, clip.start, clip.end) for clip in clips(manifest))
    todo = _Todo(manifest, taken)
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


class _Todo:
    """The utterances to embed, made from the manifest each time, and the state of each, ``(N,)``."""

    def __init__(self, manifest: Manifest, taken: bytearray) -> None:
        self.manifest, self.taken = manifest, taken
        self.states = np.fromiter(map(_state, self._own()), _STATE)

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Clip]:
        return (replace(clip, place=place) for place, clip in enumerate(self._own()))

    def _own(self) -> Iterator[Clip]:
        return compress(clips(self.manifest), self.taken)

    def state(self, clip: Clip) -> str:
        """Returns what identifies the state of an utterance, as it was when the run began."""
        return str(self.states[clip.place].decode())


def _state(clip: Clip) -> str:
    """Identifies the state of an utterance without decoding it."""
    if clip.fault:
        raise ManifestError(clip.fault)
    facts = [str(clip.sound), clip.start, clip.end, *file_stamp(Path(str(clip.sound)))]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _known(manifest: Manifest, column: str, encoder_sha256: str) -> _Places:
    """Returns where the manifest has vectors of the same encoder already, by content hash."""
    known: _Places = {}
    for file in vector_places(manifest, column)[0] if column in manifest.table.columns else ():
        with suppress(ManifestError):  # computed again where the array is missing
            info = describe_array(file)
            if info["encoder_sha256"] == encoder_sha256:
                array = open_array(file)
                known.update(zip(info["hashes"], ((array, row) for row in range(len(array))), strict=False))
    return known


def _embed(model: Representation, shards: Shards, todo: _Todo, known: _Places, plan: Plan) -> None:
    """Embeds what is not in the shards yet; equal samples once."""
    stored = {_key(row["hash"]) for chunk in shards.rows("hash", "count") for row in chunk if row["count"]}
    begun: set[bytes] = set()

    def decode_and_hash(clip: Clip) -> Samples:
        try:
            samples = to_int16(decode(Path(str(clip.sound)), clip.start, clip.end))
        except AudioError as error:
            return str(error)
        clip.notes[_HASH] = content_hash(samples)  # comes back from other processes too
        return from_int16(samples)

    def wanted(clip: Clip) -> bool:
        key = _key(clip.notes[_HASH])
        if key in begun or key in stored or clip.notes[_HASH] in known:
            return False
        begun.add(key)
        return True

    network = model.embedder or model.encoder
    assert network is not None
    windows = Windows(longest=getattr(network, "longest_seconds", None) or math.inf)
    batch = network.batch_seconds * (1 if model.device.type == "cpu" else _GPU_BATCHES)
    chunk = max(_CHUNK_SECONDS, batch)
    plan = replace(plan, windows=windows, chunk_seconds=chunk, batch_seconds=batch)
    plan = replace(plan, decode=decode_and_hash, wanted=wanted)
    rest = shards.rest(progress(todo, "embed", len(todo)), todo.state)
    for piece, vector in vectors_of_clips(model, rest, plan):
        hashed = piece.clip.notes.pop(_HASH, "")
        key = _key(hashed)
        if vector is None and hashed in known:
            array, place = known[hashed]
            vector = array[place]
        if key in stored:
            vector = None
        elif vector is not None:
            stored.add(key)
            begun.discard(key)
        row = {"hash": hashed or None, "error": piece.fault or None, **packed(vector)}
        shards.add(todo.state(piece.clip), row)


def _key(sound: str) -> bytes:
    """Returns a content hash in half of its bytes, which are enough to tell a million apart."""
    return bytes.fromhex(sound[:32])


def _finish(
    run: RunFolder,
    manifest: Manifest,
    settings: SpeakerSettings,
    model: Representation,
    shards: Shards,
    todo: _Todo,
    division: Division,
) -> None:
    """Puts array, manifest and description in place."""
    sounds, places, faults = _found(shards, todo.states)
    unreadable = {}
    for clip, place in zip(todo, places.tolist(), strict=True) if len(faults) else ():
        if place < 0:
            odd = f"{clip.sound!s}: {model.name} gives no finite embedding"
            unreadable[clip.utterance] = faults[todo.state(clip)] or odd
    if not len(sounds) and division.shard is None:
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
    hashes = [sound.decode() for sound in sounds]
    write_vectors(shards.output, np.load(joined, mmap_mode="r", allow_pickle=False), hashes, info)
    del hashes
    column = np.full(len(manifest), None, object)
    column[division.places] = [None if place < 0 else cell(shards.output, place) for place in places.tolist()]
    manifest.with_columns({settings.name: column}).write(run / MANIFEST, division.places)
    if division.shard is not None:
        alike = {"verb": "annotate speakers", "listed": division.sha256, "manifest_sha256": manifest.sha256}
        alike |= {"encoder_sha256": model.sha256, **settings.model_dump(mode="json")}
        describe_part(shards.output, division.shard, division.places, alike)
    meta = {"utterances": len(todo), "vectors": len(sounds), "column": settings.name}
    meta |= {"encoder": model.name, "manifest_sha256": manifest.sha256, "unreadable": unreadable}
    run.finish(meta)


def _found(
    shards: Shards, states: NDArray[np.bytes_]
) -> tuple[NDArray[np.bytes_], NDArray[np.int64], dict[str, str | None]]:
    """Returns the hashes of the vectors, the vector of each state, -1 for none, and why some have none."""
    stored = [
        np.array([row["hash"] for row in rows if row["count"]], _SOUND)
        for rows in shards.rows("hash", "count")
    ]
    sounds = np.concatenate([np.zeros(0, _SOUND), *stored])
    order = np.argsort(sounds)
    ordered, names = np.append(sounds[order], np.zeros(1, _SOUND)), np.append(np.unique(states), b"")
    places, faults = np.full(len(names), -1), dict[str, str | None]()
    for rows in shards.rows("clip", "hash", "error"):
        own = np.array([row["hash"] or "" for row in rows], _SOUND)
        found = ordered[:-1].searchsorted(own)
        vectors = np.where(ordered[found] == own, np.append(order, -1)[found], -1)
        listed = np.array([row["clip"] for row in rows], _STATE)
        at = names[:-1].searchsorted(listed)
        there = names[at] == listed  # else of a recording that has changed since
        places[at[there]] = vectors[there]
        for row, place in zip(rows, vectors.tolist(), strict=True):
            faults.pop(row["clip"], None)
            if place < 0:
                faults[row["clip"]] = None if row["hash"] else row["error"]
    return sounds, places[names[:-1].searchsorted(states)], faults
