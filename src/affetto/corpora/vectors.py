"""Vectors beside a manifest: a column whose cells name rows of an array on disk.

A cell reads ``FILE.npy#ROW``. Beside the array lies ``FILE.json``: which encoder made it, the content hash
of the decoded samples that each row stands for, and what is known of whom the encoder has heard.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR, lacks, some
from affetto.errors import ManifestError
from affetto.runs import atomic_write, write_json

SPEAKER_COLUMN = "speaker_embedding"
"""The column that ``affetto annotate speakers`` writes unless told otherwise."""


def content_hash(samples: NDArray[np.int16]) -> str:
    """Returns the hash by which decoded samples ``(S,)`` are known: equal sound, equal hash."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<i2").data).hexdigest()


def cell(array: Path, row: int) -> str:
    """Returns the cell that names a row of an array."""
    return f"{array}#{row}"


def write_vectors(
    file: Path, rows: NDArray[np.float32], hashes: Sequence[str], info: Mapping[str, Any]
) -> None:
    """Writes an array and its description, each atomically.

    Args:
        file: ``NAME.npy``.
        rows: one vector a row, ``(R, D)``; may be memory-mapped.
        hashes: :func:`content_hash` of what each row stands for.
        info: the rest of ``NAME.json``: at least ``encoder`` and ``encoder_sha256``.
    """
    with atomic_write(file) as temporary, open(temporary, "wb") as handle:
        np.save(handle, rows, allow_pickle=False)
    write_json(file.with_suffix(".json"), {**info, "dim": int(rows.shape[1]), "hashes": list(hashes)})


def vector_places(
    manifest: Manifest, column: str = SPEAKER_COLUMN, verb: str = "speakers"
) -> list[tuple[Path, int] | None]:
    """Returns array and row of every utterance; None where the cell is empty.

    Args:
        manifest: the utterances.
        column: the column whose cells name rows of arrays.
        verb: of ``affetto annotate`` that makes such a column, for errors.

    Raises:
        ManifestError: for a column that is missing, or holds something else than such cells.
    """
    if column not in manifest.table.columns:
        raise ManifestError(
            f"{lacks(column, manifest.table.columns)}; affetto annotate {verb} makes such a column"
        )
    places: list[tuple[Path, int] | None] = []
    for key, value in zip(manifest.keys, manifest.table[column], strict=True):
        if value is None or value != value:  # a column without any cell is one of NaN
            places.append(None)
            continue
        found = VECTOR.fullmatch(str(value))
        if not found:
            raise ManifestError(f"{key}: the column {column!r} holds {value!r}; FILE.npy#ROW is needed")
        places.append((Path(found["file"]), int(found["row"])))
    return places


def vector_info(manifest: Manifest, column: str = SPEAKER_COLUMN) -> list[dict[str, Any]]:
    """Returns the descriptions of the arrays that a column names, sorted by file.

    Raises:
        ManifestError: for a column or a file that is missing, or vectors of several encoders.
    """
    files = sorted({place[0] for place in vector_places(manifest, column) if place})
    described = [describe_array(file) for file in files]
    encoders = {str(info["encoder_sha256"]): str(info["encoder"]) for info in described}
    if len(encoders) > 1:
        raise ManifestError(
            f"the column {column!r} holds embeddings of several encoders ({some(encoders.values())}), "
            "whose spaces have nothing to do with each other; annotate all rows with one"
        )
    return described


def read_vectors(
    manifest: Manifest, column: str = SPEAKER_COLUMN, encoder: str | None = None
) -> NDArray[np.float32]:
    """Returns the vectors that a column names, ``(N, D)`` float32, in the manifest's order.

    Args:
        manifest: the utterances.
        column: the column whose cells name rows of arrays.
        encoder: the name or the hash of the encoder that must have made them; None for any one.

    Raises:
        ManifestError: for a column or a file that is missing, an empty cell, a row outside its array, or
            vectors of another encoder.
    """
    places = vector_places(manifest, column)
    empty = [key for key, place in zip(manifest.keys, places, strict=True) if place is None]
    if empty:
        raise ManifestError(
            f"the column {column!r} is empty in {len(empty)} rows: {some(empty)}; "
            "run affetto annotate speakers, or leave these rows out"
        )
    described = vector_info(manifest, column)
    if encoder is not None:
        for info in described:
            if not {encoder, Path(encoder).name} & {info["encoder"], info["encoder_sha256"]}:
                raise ManifestError(
                    f"the column {column!r} holds embeddings made by another encoder than the config says: "
                    f"{info['encoder']!r}, not {encoder!r}; annotate again, or name the other column"
                )
    by_file: dict[Path, list[tuple[int, int]]] = {}
    for target, place in enumerate(places):
        if place:
            by_file.setdefault(place[0], []).append((target, place[1]))
    arrays = {file: open_array(file) for file in by_file}
    if len(dims := {array.shape[1] for array in arrays.values()}) > 1:
        raise ManifestError(f"the column {column!r} names arrays of {sorted(dims)} columns")
    vectors = np.empty((len(places), dims.pop() if dims else 0), np.float32)
    for file, pairs in by_file.items():
        targets, rows = np.array(pairs).T
        if rows.max() >= len(arrays[file]):
            raise ManifestError(f"{file} has {len(arrays[file])} rows; the manifest asks for {rows.max()}")
        vectors[targets] = arrays[file][rows]
    return vectors


def describe_array(file: Path) -> dict[str, Any]:
    """Reads what lies beside an array: ``encoder``, ``encoder_sha256``, ``dim``, ``hashes``, ...

    Raises:
        ManifestError: when it is missing or damaged.
    """
    beside = file.with_suffix(".json")
    try:
        info: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        return {"encoder": info["encoder"], "encoder_sha256": info["encoder_sha256"], **info}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{beside} does not say which encoder made {file.name} ({error}); "
            "move a manifest together with the folder of its arrays, or annotate again"
        ) from error


def open_array(file: Path) -> NDArray[np.float32]:
    """Opens an array of vectors, ``(R, D)``, memory-mapped.

    Raises:
        ManifestError: when it is missing, damaged, or no such array.
    """
    try:
        array: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{file} cannot be read ({error}); move a manifest together with the folder of its arrays, "
            "or annotate again"
        ) from error
    if array.ndim != 2:
        raise ManifestError(f"{file} holds an array of shape {array.shape}; one vector a row is needed")
    return array
