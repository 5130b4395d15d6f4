"""Vectors on their way to disk: appended to, interrupted, taken up again, put in place."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from affetto.inference.rows import Predicted, Row
from affetto.inference.sources import Clip
from affetto.inference.unfinished import UnfinishedTable
from affetto.runs import atomic_write

NPY, PARQUET = ".npy", ".parquet"
TYPE = np.dtype("<f4")
_TOGETHER = 512  # rows of a Parquet file that are put together at once


class UnfinishedVectors(UnfinishedTable):
    """Rows as :class:`~affetto.inference.unfinished.UnfinishedTable` keeps them, and the vectors beside them.

    ``OUT.part.values`` holds the vectors one after another. They are written before the rows that count them,
    so that what was being written when its process was stopped is known by the rows, and cut off.

    Args:
        path: the output, ``.npy`` or ``.parquet``.
        dim: ``D``, size of a vector.
        frames: whether a row may have several vectors.
        metadata: what the Parquet file says of itself.
    """

    def __init__(self, path: Path, dim: int, frames: bool, metadata: dict[str, str]) -> None:
        self.array, self.dim, self.frames, self.metadata = path, dim, frames, metadata
        self.beside = path.suffix.lower() == NPY
        names = ["key", "file", "start", "end", "row", "frames", "error"]
        if self.beside and not frames:
            names.remove("frames")
        elif self.beside:
            names.insert(-1, "hop_seconds")
        super().__init__(path.with_suffix(".csv") if self.beside else path, names)
        self.values = path.with_name(f"{path.name}.part.values")
        self.count = 0
        self._values: BinaryIO | None = None

    @contextmanager
    def opened(self, options: dict[str, Any]) -> Iterator[None]:
        """Holds all files for this process alone, as they were when last recorded; raises as its parent."""
        with super().opened(options), open(self.values, "r+b" if self.values.exists() else "w+b") as handle:
            self._values = handle
            handle.truncate(self.count * self.dim * TYPE.itemsize)
            handle.seek(0, os.SEEK_END)
            yield
            handle.flush()
            os.fsync(handle.fileno())

    def append(self, clip: Clip, row: Row, vectors: NDArray[np.float32] | None, last: bool) -> None:
        """Appends a row and its vectors ``(T, D)``; None where there are none."""
        if vectors is not None:
            assert self._values is not None  # inside opened()
            row = {**row, "row": self.count, "frames": len(vectors)}
            self._values.write(np.ascontiguousarray(vectors, TYPE).data)
            self.count += len(vectors)
        self.add(Predicted(clip, [dict.fromkeys(self.names) | row], last))

    def finish(self, labels: list[str] | None = None) -> None:
        """Puts the output in place, and removes what it was made of."""
        with self.writing():
            if self.beside:
                with atomic_write(self.array) as temporary:
                    self._to_npy(temporary)
                os.replace(self.part, self.path)
            else:
                with atomic_write(self.path) as temporary:
                    self._to_parquet(temporary)
                self.part.unlink()
            self.log.unlink()
            self.values.unlink()

    def _take_up(self, options: dict[str, Any]) -> None:
        super()._take_up(options)
        self._part.seek(0)
        self.count = sum(_count(row) for row in _rows(self.part, self.beside))

    def _flush(self) -> None:
        if self._values is not None and not self._values.closed:
            self._values.flush()
        super()._flush()

    def _to_npy(self, target: Path) -> None:
        header = {"descr": TYPE.str, "fortran_order": False, "shape": (self.count, self.dim)}
        with open(target, "wb") as out, open(self.values, "rb") as values:
            np.lib.format.write_array_header_1_0(out, header)
            shutil.copyfileobj(values, out, 1 << 20)

    def _to_parquet(self, target: Path) -> None:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]

        inner = pyarrow.list_(pyarrow.float32(), self.dim)
        kinds = {"start": pyarrow.float64(), "end": pyarrow.float64()}
        kinds |= {"frames": pyarrow.list_(inner), "vector": inner}
        names = ["key", "file", "start", "end", "frames" if self.frames else "vector", "error"]
        schema = pyarrow.schema(
            [(name, kinds.get(name, pyarrow.string())) for name in names], metadata=self.metadata
        )
        with open(self.values, "rb") as values, pyarrow.parquet.ParquetWriter(target, schema) as writer:
            rows: list[Row] = []
            held = 0
            for row in _rows(self.part, False):
                count = _count(row)
                own = np.frombuffer(values.read(count * self.dim * TYPE.itemsize), TYPE).reshape(-1, self.dim)
                shown = {name: row.get(name) for name in names}
                shown[names[-2]] = (list(own) if self.frames else own[0]) if count else None
                rows.append(shown)
                held += count
                if max(len(rows), held * self.dim // (1 << 12)) >= _TOGETHER:
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                    rows, held = [], 0
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _rows(part: Path, as_csv: bool) -> Iterator[Row]:
    """Yields the rows of a part."""
    with open(part, encoding="utf-8", errors="surrogateescape" if as_csv else "replace", newline="") as lines:
        yield from csv.DictReader(lines) if as_csv else map(json.loads, lines)


def _count(row: Row) -> int:
    """Returns how many vectors a row has."""
    if row.get("row") in (None, ""):
        return 0
    return int(row.get("frames") or 1)
