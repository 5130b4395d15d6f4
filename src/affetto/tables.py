"""Tables of rows as CSV, JSON lines and Parquet, and arrays of vectors: written and read a row at a time."""

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import Table, parquet  # type: ignore[import-untyped]

from affetto.runs import atomic_write

GROUP_ROWS, VECTOR_ROWS = 8192, 512  # of a group in a Parquet file, without and with vectors
PART_ROWS = 20_000  # of a manifest that are in memory at once, where a row needs no other
FLOAT = np.dtype("<f4")
_READ_TOGETHER = 256

Row = dict[str, Any]
"""A line of a table, by column; None where nothing is known."""


def write_lines(path: Path, names: list[str], rows: Iterable[Row]) -> None:
    """Writes rows as ``.csv``, or as ``.jsonl``; a file name that is no UTF-8 keeps its bytes."""
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as lines,
    ):
        cells = ({name: row[name] for name in names} for row in rows)
        if path.suffix.lower() == ".csv":
            writer = csv.DictWriter(lines, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(cells)
        else:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in cells)


def write_parquet(path: Path, schema: Any, rows: Iterable[Row], together: int = GROUP_ROWS) -> None:
    """Writes rows as Parquet of a pyarrow schema, in groups of ``together`` rows."""
    with (
        atomic_write(path) as temporary,
        open(temporary, "wb") as handle,
        parquet.ParquetWriter(handle, schema) as writer,
    ):
        left, held = iter(rows), list[Row]()
        while held := list(islice(left, together)):
            writer.write_table(Table.from_pylist(held, schema))


def write_array(path: Path, count: int, dim: int, rows: Iterable[Any]) -> None:
    """Writes an array ``(count, dim)`` of 32-bit floats from the bytes of its rows, or of several at once."""
    with atomic_write(path) as temporary, open(temporary, "wb") as handle:
        header = {"descr": FLOAT.str, "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.writelines(rows)


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Yields some columns of an output, or all, in CSV as text."""
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_READ_TOGETHER, columns=columns):
                yield from batch.to_pylist()
        return
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines) if path.suffix.lower() == ".csv" else map(json.loads, lines)
        yield from rows if columns is None else ({name: row[name] for name in columns} for row in rows)
