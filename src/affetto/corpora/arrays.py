"""Columns whose cells ``FILE.npy#ROW`` name rows of arrays on disk, and the facts of such columns.

``FILE.json`` has one form for vectors and for curves (:mod:`affetto.corpora.curves`): what made the array,
the content hash of each row (``hashes``), and what :class:`~affetto.corpora.labels.Marks` reads.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.corpora.labels import Marks
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR, is_missing, lacks
from affetto.errors import ManifestError, some
from affetto.runs import atomic_write, read_json, write_json

SPEAKER_COLUMN = "speaker_embedding"  # which ``affetto annotate speakers`` writes by default
_MAPPED_ROWS = 1 << 15  # that are read of memory-mapped files before these are opened again
_MOVE = "move a manifest together with the folder of its arrays, or "


def marks_of(manifest: Manifest, column: str) -> Marks:
    """Returns which emotion labels a column rests on; ``emotion`` and ``votes_<emotion>`` are labels.

    They are read from the JSON of the arrays for a column of such, from the manifest's marks for another.
    """
    if column == "emotion" or column.startswith("votes_"):
        return Marks("labels", labels_used=True)
    marks = manifest.marks.get(column, Marks())
    cells = (VECTOR.fullmatch(value) for value in manifest.table.get(column, ()) if isinstance(value, str))
    for file in sorted({Path(found["file"]) for found in cells if found}):
        facts = read_facts(file)
        try:
            marks |= Marks.of_facts(facts)
        except (ValueError, TypeError) as error:
            raise _undescribed(file, "what", error, "annotate again") from error
    return marks


def content_hash(samples: NDArray[np.int16]) -> str:
    """Returns the hash that decoded samples ``(S,)`` are known by: equal sound, equal hash."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<i2").data).hexdigest()


def cell(array: Path, row: int) -> str:
    """Returns the cell that names a row of an array."""
    return f"{array}#{row}"


def write_vectors(
    file: Path, rows: NDArray[np.float32], hashes: Sequence[str], info: Mapping[str, Any]
) -> None:
    """Writes vectors ``(R, D)`` to ``NAME.npy``; ``info`` has ``encoder`` and ``encoder_sha256``."""
    save_array(file, rows, hashes, {**info, "dim": int(rows.shape[1])})


def save_array(
    file: Path, values: NDArray[np.float32], hashes: Sequence[str], info: Mapping[str, Any]
) -> None:
    """Writes an array and ``FILE.json``, each atomically; ``hashes`` are :func:`content_hash` of its rows."""
    with atomic_write(file) as temporary, open(temporary, "wb") as handle:
        np.save(handle, values, allow_pickle=False)
    write_json(file.with_suffix(".json"), {**info, "hashes": list(hashes)})


def vector_places(
    manifest: Manifest, column: str = SPEAKER_COLUMN, verb: str = "speakers"
) -> tuple[list[Path], NDArray[np.int64]]:
    """Returns the arrays, sorted, and for each utterance the number of its array and its row, ``(N, 2)``.

    Both are -1 where the cell is empty; ``verb`` is for errors.
    """
    if column not in manifest.table.columns:
        message = lacks(column, manifest.table.columns)
        raise ManifestError(f"{message}; affetto annotate {verb} makes such a column")
    places = np.full((len(manifest), 2), -1, np.int64)
    numbers: dict[str, int] = {}
    for place, (key, value) in enumerate(zip(manifest.table["key"], manifest.table[column], strict=True)):
        if found := VECTOR.fullmatch(str(value)):
            places[place] = numbers.setdefault(found["file"], len(numbers)), int(found["row"])
        elif not is_missing(value):
            raise ManifestError(f"{key}: the column {column!r} holds {value!r}; FILE.npy#ROW is needed")
    files = sorted(map(Path, numbers))
    order = [files.index(Path(name)) for name in numbers]
    places[:, 0] = np.array([*order, -1])[places[:, 0]]
    return files, places


def all_places(manifest: Manifest, column: str, verb: str) -> tuple[list[Path], NDArray[np.int64]]:
    """Returns what :func:`vector_places` does; empty cells are refused."""
    files, places = vector_places(manifest, column, verb)
    if len(empty := manifest.table["key"][places[:, 0] < 0]):
        raise ManifestError(
            f"the column {column!r} is empty in {len(empty)} rows: {some(empty)}; "
            f"run affetto annotate {verb}, or leave these rows out"
        )
    return files, places


class VectorRows:
    """The vectors that a column names, ``(N, D)`` float32, in the manifest's order, read when asked for.

    ``encoder`` is the name or the hash of the encoder that must have made them; None for any one. ``info`` is
    what :func:`vector_info` returns, without hashes.
    """

    def __init__(self, manifest: Manifest, column: str = SPEAKER_COLUMN, encoder: str | None = None) -> None:
        self.files, self.places = all_places(manifest, column, "speakers")
        self.info = [{**info, "hashes": None} for info in _one_encoder(self.files, column)]
        for info in self.info:
            names = {info["encoder"], info["encoder_sha256"]}
            if encoder is not None and not {encoder, Path(encoder).name} & names:
                raise ManifestError(
                    f"the column {column!r} holds embeddings made by another encoder than the config says: "
                    f"{info['encoder']!r}, not {encoder!r}; annotate again, or name the other column"
                )
        shapes = [open_array(file).shape for file in self.files]
        if len(dims := {shape[1] for shape in shapes}) > 1:
            raise ManifestError(f"the column {column!r} names arrays of {sorted(dims)} columns")
        for number, (file, (rows, _)) in enumerate(zip(self.files, shapes, strict=True)):
            if (most := self.places[self.places[:, 0] == number, 1].max()) >= rows:
                raise ManifestError(f"{file} has {rows} rows; the manifest asks for {most}")
        self.shape = (len(self.places), dims.pop() if dims else 0)
        self._arrays: list[NDArray[np.float32]] = []
        self._read = 0

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        places = self.places[rows]
        if not self._arrays or self._read > _MAPPED_ROWS:  # what was read of a mapped file stays in memory
            self._arrays, self._read = [open_array(file) for file in self.files], 0
        self._read += len(places)
        vectors = np.empty((len(places), self.shape[1]), np.float32)
        for number in np.unique(places[:, 0]).tolist():
            own = places[:, 0] == number
            vectors[own] = self._arrays[number][places[own, 1]]
        return vectors


def read_vectors(
    manifest: Manifest, column: str = SPEAKER_COLUMN, encoder: str | None = None
) -> NDArray[np.float32]:
    """Returns all of :class:`VectorRows` as one array, ``(N, D)`` float32."""
    return VectorRows(manifest, column, encoder)[:]


def vector_info(manifest: Manifest, column: str = SPEAKER_COLUMN) -> list[dict[str, Any]]:
    """Returns the descriptions of the arrays that a column names, sorted by file, all of one encoder."""
    return _one_encoder(vector_places(manifest, column)[0], column)


def _one_encoder(files: list[Path], column: str) -> list[dict[str, Any]]:
    described = [describe_array(file) for file in files]
    encoders = {str(info["encoder_sha256"]): str(info["encoder"]) for info in described}
    if len(encoders) > 1:
        raise ManifestError(
            f"the column {column!r} holds embeddings of several encoders ({some(encoders.values())}), "
            "whose spaces have nothing to do with each other; annotate all rows with one"
        )
    return described


def describe_array(file: Path) -> dict[str, Any]:
    """Reads the description of an array of vectors."""
    info = read_facts(file, "which encoder")
    if missing := [name for name in ("encoder", "encoder_sha256") if name not in info]:
        raise _undescribed(file, "which encoder", repr(missing[0]), "annotate again")
    return info


def read_facts(file: Path, maker: str = "what", again: str = "annotate again") -> dict[str, Any]:
    """Reads the JSON next to an array; ``maker`` and ``again`` word the error."""
    try:
        return dict(read_json(file.with_suffix(".json")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _undescribed(file, maker, error, again) from error


def _undescribed(file: Path, maker: str, reason: object, again: str) -> ManifestError:
    sidecar = file.with_suffix(".json")
    return ManifestError(f"{sidecar} does not say {maker} made {file.name} ({reason}); {_MOVE}{again}")


def open_array(file: Path) -> NDArray[np.float32]:
    """Opens an array of two dimensions, memory-mapped."""
    try:
        array: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file} cannot be read ({error}); {_MOVE}annotate again") from error
    if array.ndim != 2:
        raise ManifestError(f"{file} holds an array of shape {array.shape}; one vector a row is needed")
    return array
