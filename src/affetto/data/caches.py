"""Caches on disk: made once, under a lock, moved into place whole, and then only read."""

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE, decode, from_int16, to_int16
from affetto.errors import AffettoError, AudioError
from affetto.members import file_stamp
from affetto.progress import progress
from affetto.runs import lock, read_json

if TYPE_CHECKING:  # it loads pandas, which predict does without
    from affetto.corpora.manifest import Manifest

_DECODERS = 2
_TOGETHER = 256  # rows decoded before they are written
_LAYOUT = 2  # raise it when the files of a cache change their meaning


def cache_dir() -> Path:
    """Returns the folder for caches: ``AFFETTO_CACHE``, or ``affetto`` in the user's own cache folder."""
    if named := os.environ.get("AFFETTO_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "affetto"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affetto"


class _Rows:
    """Arrays of any length, one an utterance, one after another in a memory-mapped ``values.npy``."""

    scale: float  # factor on what is in the file

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: dict[str, Any] = read_json(folder / "index.json")
        self.lengths: NDArray[np.int64] = np.array(self._index["lengths"], np.int64)
        self.values: NDArray[Any] = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self._offsets[row] : self._offsets[row + 1]]

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows, ``(B, S)`` or ``(B, T, F)`` float32, zero past their ends, and lengths ``(B,)``."""
        longest = max(1, int(self.lengths[rows].max(initial=0)))
        stacked = np.zeros((len(rows), longest, *self.values.shape[1:]), np.float32)
        for place, row in zip(stacked, rows.tolist(), strict=True):
            np.multiply(
                _Rows.__getitem__(self, row), self.scale, place[: self.lengths[row]], dtype=np.float32
            )
        return torch.from_numpy(stacked), torch.from_numpy(self.lengths[rows])


class WaveformCache(_Rows):
    """The decoded waveforms of a manifest as 16-bit samples, row by row.

    Attributes:
        lengths: samples in each row, ``(N,)``; 0 for a row that could not be decoded.
        errors: the reason for each such row, by key.
        name: a hash that changes with the files.
    """

    scale = 1 / 32768

    def __init__(self, folder: Path, keys: list[str]) -> None:
        super().__init__(folder)
        self.name = folder.name
        self.errors: dict[str, str] = {keys[int(row)]: text for row, text in self._index["errors"].items()}

    @classmethod
    def open(cls, manifest: "Manifest") -> "WaveformCache":
        """Opens the cache of a manifest in :func:`cache_dir`; decodes what is not there yet."""
        times = (manifest.table[name].astype(float).tolist() for name in ("start", "end"))
        starts, ends = ([None if math.isnan(second) else second for second in column] for column in times)
        rows = list(zip(manifest.paths, starts, ends, strict=True))
        named = [(str(path), *file_stamp(path), start, end) for path, start, end in rows]
        sha = hashlib.sha256(json.dumps([_LAYOUT, SAMPLE_RATE, named]).encode()).hexdigest()

        def build(folder: Path) -> None:
            errors: dict[int, str] = {}
            waveforms = progress(_waveforms(rows, errors), "decode", total=len(rows))
            _write(folder, waveforms, np.zeros(0, np.int16), {"errors": errors})

        folder = _built(cache_dir() / "waveforms", sha, build)
        return cls(folder, [str(key) for key in manifest.table["key"]])

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Returns the samples of one row, ``(S,)``."""
        return from_int16(super().__getitem__(row))


class FeatureCache(_Rows):
    """Features that no longer change: float32 frames ``(T, F)`` of each utterance.

    Attributes:
        lengths: frames in each row, ``(N,)``; ``cache[row]`` is a view of them in the file.
        values: all frames one after another, ``(sum of lengths, F)``.
    """

    scale = 1.0

    @classmethod
    def open(cls, sha256: str, produce: Callable[[], Iterable[NDArray[np.float32]]]) -> "FeatureCache":
        """Opens a cache in :func:`cache_dir`; ``produce`` makes it: ``(T, F)`` or ``(F,)`` each.

        The hash must change with everything that the arrays depend on.
        """

        def build(folder: Path) -> None:
            _write(folder, map(np.atleast_2d, produce()), np.zeros((0, 0), np.float32), {})

        return cls(_built(cache_dir() / "frames", sha256, build))


class Resident:
    """The content of a cache on a device, stacked there in the same way."""

    def __init__(self, store: _Rows, device: torch.device) -> None:
        self.lengths, self.scale, self.device = store.lengths, store.scale, device
        self.values = torch.from_numpy(np.array(store.values)).to(device)
        self.offsets = np.cumsum(self.lengths) - self.lengths

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns what the cache would, on the device."""
        places = torch.arange(max(1, int(self.lengths[rows].max(initial=0))), device=self.device)
        host = torch.from_numpy(np.stack([self.offsets[rows], self.lengths[rows]]))
        host = host.pin_memory() if self.device.type == "cuda" else host
        firsts, lengths = host.to(self.device, non_blocking=True)
        index = (firsts[:, None] + places).clamp_max_(max(0, len(self.values) - 1))
        values = self.values[index].float().mul_(self.scale)
        outside = places >= lengths[:, None]
        return values.masked_fill_(outside.view(*outside.shape, *[1] * (values.ndim - 2)), 0.0), lengths


def resident(store: Any, device: torch.device) -> Any:
    """Returns a cache on a GPU where it takes at most a quarter of the free memory, else as it is."""
    if device.type != "cuda" or not isinstance(store, _Rows):
        return store
    fits = 4 * store.values.nbytes <= torch.cuda.mem_get_info(device)[0]
    return Resident(store, device) if fits else store


def _write(folder: Path, arrays: Iterator[NDArray[Any]], empty: NDArray[Any], facts: dict[str, Any]) -> None:
    """Writes arrays that differ in length only, as :class:`_Rows` reads them; ``empty`` for none at all."""
    first = next(arrays, empty)
    about = {"descr": empty.dtype.str, "fortran_order": False}
    lengths: list[int] = []
    with open(folder / "values.npy", "wb") as file:
        # The header is written twice: its size is the same for any number of rows, which comes last.
        write_array_header_1_0(file, {**about, "shape": first.shape})
        for array in chain((first,), arrays) if first is not empty else ():
            if array.shape[1:] != first.shape[1:]:
                dims = sorted({*first.shape[1:], *array.shape[1:]})
                raise AffettoError(f"got arrays of {dims} columns; all must have the same number")
            file.write(np.ascontiguousarray(array, empty.dtype).data)
            lengths.append(len(array))
        file.seek(0)
        write_array_header_1_0(file, {**about, "shape": (sum(lengths), *first.shape[1:])})
    (folder / "index.json").write_text(json.dumps({"lengths": lengths, **facts}), encoding="utf-8")


def _built(parent: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Returns the folder ``parent / name``; makes it first, under a lock, where it does not exist.

    A second process that asks for the same waits for the first and then reads.
    """
    folder, part = parent / name, parent / f"{name}.part"
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with lock(parent / f"{name}.lock"):
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


def _waveforms(
    rows: list[tuple[Path, float | None, float | None]], errors: dict[int, str]
) -> Iterator[NDArray[np.int16]]:
    """Decodes rows in order, a few at once: libsndfile works outside the interpreter's lock."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        for first in range(0, len(rows), _TOGETHER):
            for row, samples in enumerate(pool.map(_decode_row, rows[first : first + _TOGETHER]), first):
                if isinstance(samples, str):
                    errors[row], samples = samples, np.zeros(0, np.int16)
                yield samples


def _decode_row(row: tuple[Path, float | None, float | None]) -> NDArray[np.int16] | str:
    try:
        return to_int16(decode(*row))
    except AudioError as error:
        return str(error)
