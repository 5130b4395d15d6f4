"""Caches on disk: made once, under a lock, moved into place whole, and then only read."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE, decode, from_int16, to_int16
from affetto.errors import AffettoError, AudioError
from affetto.progress import progress

if TYPE_CHECKING:
    import pandas as pd

_DECODERS = 2
_TOGETHER = 256  # rows decoded before they are written
_LAYOUT = 1  # raise it when the files of a cache change their meaning


class Utterances(Protocol):
    """What a cache asks of a manifest."""

    @property
    def table(self) -> "pd.DataFrame":
        """One row an utterance, with ``key``, ``start`` and ``end``."""

    @property
    def paths(self) -> list[Path]:
        """The file of each row."""


def cache_dir() -> Path:
    """Returns the folder for caches: ``AFFETTO_CACHE``, or ``affetto`` in the user's own cache folder."""
    if named := os.environ.get("AFFETTO_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "affetto"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affetto"


class WaveformCache:
    """The decoded waveforms of a manifest, row by row, memory-mapped.

    Attributes:
        lengths: samples in each row, ``(N,)`` int64; 0 for a row that could not be decoded.
        errors: the reason for each such row, by key.
        folder: where the files lie.
    """

    def __init__(self, folder: Path, keys: list[str]) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.lengths: NDArray[np.int64] = np.array(index["lengths"], np.int64)
        self.errors: dict[str, str] = {keys[int(row)]: text for row, text in index["errors"].items()}
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._samples = _mapped(folder / "samples", np.dtype(np.int16), (int(self._offsets[-1]),))

    @classmethod
    def open(cls, manifest: Utterances, cache: Path | None = None) -> "WaveformCache":
        """Opens the cache of a manifest, and decodes its recordings where nobody has yet.

        A second process that asks for the same waits for the first and then reads.

        Args:
            manifest: the utterances; its rows keep their order.
            cache: folder that holds the caches; None for :func:`cache_dir`.

        Raises:
            AffettoError: when the cache cannot be written, e.g. on a full disk.
        """
        paths = manifest.paths
        starts, ends = (_seconds(manifest.table, name) for name in ("start", "end"))
        rows = list(zip(paths, starts, ends, strict=True))
        named = [(str(path), *_stamp(path), start, end) for path, start, end in rows]
        sha = hashlib.sha256(json.dumps([_LAYOUT, SAMPLE_RATE, named]).encode()).hexdigest()

        def build(folder: Path) -> None:
            lengths: list[int] = []
            errors: dict[int, str] = {}
            with open(folder / "samples", "wb") as file:
                for row, decoded in enumerate(progress(_decoded(rows), "decode", total=len(rows))):
                    if isinstance(decoded, str):
                        errors[row] = decoded
                        lengths.append(0)
                    else:
                        file.write(decoded.data)
                        lengths.append(len(decoded))
            index = json.dumps({"lengths": lengths, "errors": errors})
            (folder / "index.json").write_text(index, encoding="utf-8")

        folder = _built((cache or cache_dir()) / "waveforms", sha, build)
        return cls(folder, [str(key) for key in manifest.table["key"]])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Returns the samples of one row, ``(S,)``."""
        return from_int16(self._samples[self._offsets[row] : self._offsets[row + 1]])

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns waveforms ``(B, S)`` float32, zero past their ends, and lengths ``(B,)``."""
        lengths = self.lengths[rows]
        stacked = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), np.int16)
        for line, row, length in zip(stacked, rows, lengths, strict=True):
            line[:length] = self._samples[self._offsets[row] : self._offsets[row + 1]]
        return torch.from_numpy(stacked).to(torch.float32).mul_(1 / 32768), torch.from_numpy(lengths)


class FeatureCache:
    """Arrays of any length, one an utterance, in one memory-mapped file: features that no longer change.

    Attributes:
        lengths: frames in each row, ``(N,)`` int64.
        values: all frames one after another, ``(sum of lengths, F)`` float32.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.lengths: NDArray[np.int64] = np.array(index["lengths"], np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        shape = (int(self._offsets[-1]), int(index["dim"]))
        self.values: NDArray[np.float32] = _mapped(folder / "values", np.dtype(np.float32), shape)

    @classmethod
    def open(
        cls, sha256: str, produce: Callable[[], Iterable[NDArray[np.float32]]], cache: Path | None = None
    ) -> "FeatureCache":
        """Opens a cache, and fills it where nobody has yet.

        Args:
            sha256: names what is in it; it must change with everything that the arrays depend on.
            produce: called when the cache has to be filled; gives an array for each
                utterance, ``(T, F)`` or ``(F,)``.
            cache: folder that holds the caches; None for :func:`cache_dir`.

        Raises:
            AffettoError: when the cache cannot be written, e.g. on a full disk.
        """

        def build(folder: Path) -> None:
            lengths: list[int] = []
            dims = set()
            with open(folder / "values", "wb") as file:
                for array in produce():
                    rows = np.ascontiguousarray(np.atleast_2d(array), np.float32)
                    file.write(rows.data)
                    lengths.append(len(rows))
                    dims.add(rows.shape[1])
            if len(dims) > 1:
                raise AffettoError(f"got arrays of {sorted(dims)} columns; all must have the same number")
            index = json.dumps({"lengths": lengths, "dim": dims.pop() if dims else 0})
            (folder / "index.json").write_text(index, encoding="utf-8")

        return cls(_built((cache or cache_dir()) / "features", sha256, build))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Returns the frames of one row, ``(T, F)``; a view of the file."""
        return self.values[self._offsets[row] : self._offsets[row + 1]]

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns frames ``(B, T, F)``, zero past their ends, and lengths ``(B,)``."""
        lengths = self.lengths[rows]
        stacked = np.zeros((len(rows), max(1, int(lengths.max(initial=0))), self.values.shape[1]), np.float32)
        for block, row, length in zip(stacked, rows, lengths, strict=True):
            block[:length] = self.values[self._offsets[row] : self._offsets[row + 1]]
        return torch.from_numpy(stacked), torch.from_numpy(lengths)


def _built(parent: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Returns the folder ``parent / name``; makes it first, under a lock, where it does not exist."""
    folder, part = parent / name, parent / f"{name}.part"
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{name}.lock"):
            if folder.is_dir():  # another process made it while this one waited
                return folder
            shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
            part.mkdir()
            try:
                build(part)
                os.replace(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise AffettoError(
            f"cannot write the cache in {parent}: {error.strerror or error}; "
            "make room there, or name a folder with more of it in AFFETTO_CACHE"
        ) from error
    return folder


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if not np.prod(shape):  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, mode="r", shape=shape)


def _seconds(table: "pd.DataFrame", column: str) -> list[float | None]:
    if column not in table:
        return [None] * len(table)
    values = zip(table[column], table[column].isna(), strict=True)
    return [None if missing else float(value) for value, missing in values]


def _stamp(path: Path) -> tuple[int, int]:
    """Returns size and time of change; a file that is missing has neither and is reported when decoded."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _decoded(rows: list[tuple[Path, float | None, float | None]]) -> Iterator[NDArray[np.int16] | str]:
    """Decodes rows in order, a few at once (libsndfile works outside the interpreter's lock)."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        for first in range(0, len(rows), _TOGETHER):
            yield from list(pool.map(_decode_row, rows[first : first + _TOGETHER]))


def _decode_row(row: tuple[Path, float | None, float | None]) -> NDArray[np.int16] | str:
    try:
        return to_int16(decode(*row))
    except AudioError as error:
        return str(error)
