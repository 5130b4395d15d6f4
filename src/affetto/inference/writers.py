"""Output that a stopped run continues: shards of Parquet next to it, joined into the output at the end."""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from affetto.errors import AffettoError, RunError
from affetto.runs import locked

SHARD_ROWS = 8192
SHARD_CLIPS = 256
SHARD_BYTES = 32 << 20
"""A shard is written when it holds so many rows, finished recordings, or bytes of vectors."""

VECTORS = "vectors"
"""The column of a shard that holds vectors ``(T, D)`` as bytes; ``count`` holds ``T``."""

FLOAT = np.dtype("<f4")
_OPTIONS = "options.json"
_CLIP, _LAST = "clip", "last"  # of each row: its recording, and whether no further row of it follows
_TEXTS = {"file", "key", "label", "error", "hash", _CLIP}
_KINDS = {"enrolment": int, "count": int, "enrolled": bool, _LAST: bool, VECTORS: bytes}
_KINDS |= dict.fromkeys(_TEXTS, str)
_DIGITS = 6

Columns = dict[str, list[Any]]
"""Rows by column; None where a cell is empty."""

Item = TypeVar("Item")


class Outcome(NamedTuple):
    """What a verb wrote.

    Attributes:
        clips: how many recordings, or parts named by a manifest, are in the output.
        failed: how many of them could not be read.
        resumed: how many an earlier run had left there.
        finished: whether the output was complete before, so that nothing was done.
        enrolled: how many speakers were enrolled by name; None where that was not asked for.
    """

    clips: int
    failed: int
    resumed: int = 0
    finished: bool = False
    enrolled: int | None = None


class Shards:
    """The rows of an output that is not complete, in ``OUT.part/part-00017.parquet`` and so on.

    A shard is synced to disk under a temporary name and then renamed, so that a killed process or a full disk
    costs at most the rows of the shard that was being filled.

    Args:
        output: what the shards are joined into.
        names: columns of the rows.
        part: the folder of the shards; ``OUT.part`` when None.
        retry: whether recordings that failed are tried again by the next run.
    """

    def __init__(
        self, output: Path, names: Sequence[str], part: Path | None = None, retry: bool = False
    ) -> None:
        self.output, self.names, self.retry = output, list(names), retry
        self.part = part or output.with_name(f"{output.name}.part")
        self.clips = self.failed = self.resumed = 0
        self._done: Counter[str] = Counter()
        self._rows: list[tuple[str, bool, Mapping[str, Any]]] = []
        self._number = self._whole = self._bytes = 0

    @property
    def begun(self) -> bool:
        """Whether a run was stopped before its output was complete."""
        return (self.part / _OPTIONS).exists()

    @property
    def complete(self) -> bool:
        """Whether the output is there, and not about to be replaced."""
        return self.output.exists() and not self.begun

    @contextmanager
    def opened(self, options: Mapping[str, Any], join: Callable[[], None]) -> Iterator[None]:
        """Holds the shards for this process; at the end ``join`` writes the output, and they are removed.

        Raises:
            RunError: when another process holds them, or they were begun with other options.
            AffettoError: when something cannot be written.
        """
        with self._writing(), locked(self.output, self.part / "lock"):
            self._take_up(options)
            yield
            self._commit()
            join()
            (self.part / _OPTIONS).unlink()
        self.remove()

    def rest(self, everything: Iterable[Item], name: Callable[[Item], str]) -> Iterator[Item]:
        """Yields the recordings that are not in yet; one that is listed twice must be in twice."""
        for item in everything:
            if self._done[name(item)]:
                self._done[name(item)] -= 1
            else:
                yield item

    def add(self, name: str, row: Mapping[str, Any], last: bool = True) -> None:
        """Adds a row of the recording ``name``; ``last`` when no further row of it follows."""
        self._rows.append((name, last, row))
        self._bytes += len(row.get(VECTORS) or b"")
        if last:
            self._whole += 1
            self.clips += 1
            self.failed += row["error"] is not None
        if self._whole >= SHARD_CLIPS or len(self._rows) >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self._commit()

    def chunks(self, names: Sequence[str] | None = None) -> Iterator[Columns]:
        """Yields the rows of one shard after another."""
        import pyarrow.parquet  # type: ignore[import-untyped]

        for shard in self._shards():
            with pyarrow.parquet.ParquetFile(shard) as file:
                columns = file.read(list(names or self.names)).to_pydict()
            texts = {name: [_text(cell) for cell in columns[name]] for name in columns if name in _TEXTS}
            yield columns | texts

    def remove(self) -> None:
        """Removes the folder of the shards."""
        shutil.rmtree(self.part, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Words the errors of a disk that is full or cannot be written."""
        try:
            yield
        except OSError as error:
            raise AffettoError(
                f"cannot write {self.output}: {error.strerror or error}; what was written is kept in "
                f"{self.part}: make room and run the same command again"
            ) from error

    def _shards(self) -> list[Path]:
        return sorted(self.part.glob("part-*.parquet"), key=lambda shard: int(shard.stem[5:]))

    def _take_up(self, options: Mapping[str, Any]) -> None:
        if not self.begun:
            for shard in self._shards():  # stopped while they were being removed
                shard.unlink()
            with replaced(self.part / _OPTIONS) as temporary:
                temporary.write_text(json.dumps(dict(options)), encoding="utf-8")
            return
        begun = json.loads((self.part / _OPTIONS).read_text(encoding="utf-8"))
        if begun != options:
            changed = sorted(name for name in options if begun.get(name) != options[name])
            raise RunError(
                f"{self.part} was begun with other options ({', '.join(changed) or 'of another version'}); "
                "run that command again, or remove it, or name another output"
            )
        self._read_shards()
        self.resumed = self.clips

    def _read_shards(self) -> None:
        """Counts what is in, and drops rows of a recording whose last row is missing."""
        import pyarrow.parquet

        whole: list[tuple[Path, Any]] = []
        shards = self._shards()
        for number, shard in enumerate(shards):
            try:
                with pyarrow.parquet.ParquetFile(shard, page_checksum_verification=True) as file:
                    table = file.read()
            except (OSError, ValueError):  # damaged by the disk: it and what follows is computed again
                for damaged in shards[number:]:
                    damaged.unlink()
                break
            whole.append((shard, table))
            last = np.flatnonzero(table[_LAST].to_numpy())
            names = [str(_text(name)) for name in table[_CLIP].take(last).to_pylist()]
            bad = [error is not None for error in table["error"].take(last).to_pylist()]
            counted = [name for name, fault in zip(names, bad, strict=True) if not (fault and self.retry)]
            self._done.update(counted)
            self.clips += len(counted)
            self.failed += sum(bad) if not self.retry else 0
            if len(last):
                whole = whole[-1:]
        self._drop_unfinished(whole)

    def _drop_unfinished(self, tables: list[tuple[Path, Any]]) -> None:
        for shard, table in reversed(tables):
            last = np.flatnonzero(table[_LAST].to_numpy())
            if not len(last):
                shard.unlink()
            else:
                if last[-1] + 1 < len(table):
                    self._put(shard, table.slice(0, last[-1] + 1))
                self._number = int(shard.stem[5:]) + 1

    def _commit(self) -> None:
        """Writes the rows that are held as a shard."""
        if not self._rows:
            return
        import pyarrow

        columns: Columns = {name: [row[name] for *_, row in self._rows] for name in self.names}
        columns |= {_CLIP: [name for name, *_ in self._rows], _LAST: [last for _, last, _ in self._rows]}
        arrays = {name: pyarrow.array(*_stored(name, cells)) for name, cells in columns.items()}
        self._put(self.part / f"part-{self._number:05d}.parquet", pyarrow.table(arrays))
        self._number += 1
        self._rows, self._whole, self._bytes = [], 0, 0

    def _put(self, path: Path, table: Any) -> None:
        import pyarrow.parquet

        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(
            table, sink, compression="none", use_dictionary=False, write_page_checksum=True
        )
        with replaced(path) as temporary:
            temporary.write_bytes(sink.getvalue())


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a temporary path that is synced to disk and renamed to ``path`` when the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_table(path: Path, names: Sequence[str], chunks: Iterable[Columns]) -> None:
    """Writes columns as ``.csv``, ``.jsonl`` or ``.parquet``; floats are rounded to six digits."""
    if path.suffix.lower() == ".parquet":
        import pyarrow

        kinds = {str: pyarrow.string(), int: pyarrow.int64(), bool: pyarrow.bool_(), float: pyarrow.float64()}
        schema = pyarrow.schema([(name, kinds[_KINDS.get(name, float)]) for name in names])
        write_parquet(path, schema, chunks)
        return
    # A file name that is no UTF-8 keeps its bytes.
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with replaced(path) as temporary, open(temporary, "w", **options) as handle:
        if path.suffix.lower() == ".csv":
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(names)
            for chunk in chunks:
                writer.writerows(zip(*(chunk[name] for name in names), strict=True))
        else:
            for chunk in chunks:
                for cells in zip(*(chunk[name] for name in names), strict=True):
                    row = dict(zip(names, cells, strict=True))
                    handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_parquet(path: Path, schema: Any, chunks: Iterable[Columns], rows: int = SHARD_ROWS) -> None:
    """Writes columns as Parquet of a pyarrow schema, at least ``rows`` at a time."""
    import pyarrow.parquet

    with (
        replaced(path) as temporary,
        open(temporary, "wb") as handle,
        pyarrow.parquet.ParquetWriter(handle, schema) as writer,
    ):
        held: Columns = {name: [] for name in schema.names}
        for chunk in chunks:
            for name, cells in held.items():
                text = schema.field(name).type == pyarrow.string()
                cells += map(_readable, chunk[name]) if text else chunk[name]
            if len(held["error"]) >= rows:
                writer.write_table(pyarrow.table(held, schema))
                held = {name: [] for name in schema.names}
        writer.write_table(pyarrow.table(held, schema))


def write_array(path: Path, dim: int, chunks: Callable[[Sequence[str]], Iterator[Columns]]) -> None:
    """Writes the vectors of shards as ``.npy``, ``(N, D)``; ``chunks`` is :meth:`Shards.chunks`."""
    count = sum(each or 0 for chunk in chunks(["count"]) for each in chunk["count"])
    with replaced(path) as temporary, open(temporary, "wb") as handle:
        header = {"descr": FLOAT.str, "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(handle, header)
        for chunk in chunks([VECTORS]):
            handle.writelines(cell for cell in chunk[VECTORS] if cell)


def finished(path: Path) -> Outcome:
    """Counts what an output holds; in a timeline every window.

    Raises:
        RunError: for a file that ``predict`` did not write.
    """
    try:
        bad = _errors(path)
    except (KeyError, ValueError) as error:  # no such column; no such table at all
        raise RunError(
            f"{path} is there, and is no output of predict; name another file with -o, or remove it"
        ) from error
    return Outcome(len(bad), sum(bad), len(bad), True)


def _errors(path: Path) -> list[bool]:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        errors = pyarrow.parquet.read_table(path, columns=["error"])["error"]
        return [error is not None for error in errors.to_pylist()]
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines) if path.suffix.lower() == ".csv" else map(json.loads, lines)
        return [bool(row["error"]) for row in rows]


def _stored(name: str, cells: list[Any]) -> tuple[list[Any], Any]:
    """Returns the cells of a shard's column with their type; text as bytes, for it may be no UTF-8."""
    import pyarrow

    kind = _KINDS.get(name, float)
    if kind is str:
        cells = [cell if cell is None else cell.encode("utf-8", "surrogateescape") for cell in cells]
    elif kind is float:
        cells = [rounded(cell) for cell in cells]
    kinds = {int: pyarrow.int64(), bool: pyarrow.bool_(), float: pyarrow.float64()}
    return cells, kinds.get(kind, pyarrow.binary())


def rounded(value: Any) -> Any:
    """Returns a float to six digits, anything else as it is."""
    return round(value, _DIGITS) if isinstance(value, float) else value


def _text(cell: bytes | None) -> str | None:
    return None if cell is None else cell.decode("utf-8", "surrogateescape")


def _readable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
