"""Output that a stopped run continues: shards of Parquet next to it, joined into the output at the end."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import parquet

from affetto.errors import AffettoError, RunError
from affetto.runs import atomic_write, continued, locked, read_json, write_json
from affetto.shards import Shard, describe_part, refuse_other
from affetto.tables import Row, read_rows, write_array

SHARD_ROWS, SHARD_CLIPS, SHARD_BYTES = 8192, 256, 32 << 20
"""A shard is written once it holds so many rows, finished recordings, or bytes of vectors."""

TEXT, NUMBER, WHOLE = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
VECTORS = {"count": WHOLE, "vectors": pyarrow.binary()}
"""Columns of shards for vectors ``(T, D)``: ``T``, and their bytes."""

_OPTIONS = "options.json"
_HASH = "S16"  # of the name of a recording, of which a million would take 300 MB as text
_DIGITS = 6

Item = TypeVar("Item")


class Outcome(NamedTuple):
    """What a verb wrote."""

    clips: int  # recordings, or parts named by a manifest, in the output
    failed: int  # of them, could not be read
    resumed: int = 0  # of them, left by an earlier run
    finished: bool = False  # whether the output was complete before, so that nothing was done
    enrolled: int | None = None  # speakers by name; None where that was not asked for
    left_out: int = 0  # speakers with too few utterances to be enrolled
    warned: int = 0  # of the recordings, read though their header is wrong, or without some channels


class Shards:
    """The rows of an output that is not complete, in ``OUT.part/part-00017.parquet`` and so on.

    A shard is synced to disk under a temporary name and then renamed, so that a killed process or a full disk
    costs at most the rows of the shard that was being filled. Text is stored as bytes: a file name may be no
    UTF-8. With ``retry``, recordings that failed are tried again by the next run. The rows of a ``shard`` of
    all have a ``place`` too, and its output is described by ``OUT.shard.json``.
    """

    def __init__(
        self,
        output: Path,
        types: Mapping[str, Any],
        part: Path | None = None,
        retry: bool = False,
        shard: Shard | None = None,
    ) -> None:
        self.shard = shard
        self.output, self.types, self.retry = output, dict(types), retry
        self.part = part or output.with_name(f"{output.name}.part")
        self.clips = self.failed = self.resumed = self.warned = 0
        self._said = ["error", *(name for name in types if name == "warning")]
        self._done, self._left = np.zeros(0, _HASH), np.zeros(0, np.int64)  # hashes of names, and how often
        self._rows: list[Row] = []
        self._texts = {"clip", *(name for name, kind in types.items() if kind == TEXT)}
        stored = {name: pyarrow.binary() if kind == TEXT else kind for name, kind in types.items()}
        stored |= {"place": WHOLE} if shard else {}
        self._schema = pyarrow.schema({"clip": pyarrow.binary(), "last": pyarrow.bool_(), **stored})
        self._number = self._whole = self._bytes = 0

    @property
    def begun(self) -> bool:
        """Whether a run was stopped before its output was complete."""
        return (self.part / _OPTIONS).exists()

    def finished(self, table: Path, refusal: str) -> Outcome:
        """Counts the rows of a complete output, and removes shards that a run was stopped in removing.

        A table that has no column ``error`` is refused with a RunError.
        """
        rows = bad = odd = 0
        try:
            for row in read_rows(table, self._said):
                rows += 1
                bad += bool(row["error"])
                odd += bool(row.get("warning"))
        except (KeyError, ValueError, OSError) as error:  # no such column; no such table at all
            raise RunError(refusal) from error
        refuse_other(self.output, self.shard)
        self.remove()
        return Outcome(rows, bad, rows, True, warned=odd)

    @contextmanager
    def opened(self, options: Mapping[str, Any], join: Callable[[], None]) -> Iterator[None]:
        """Holds the shards for this process; at the end ``join`` writes the output, and they are removed.

        A RunError says that another process holds them, or that they were begun with other options.
        """
        try:
            with locked(self.output, self.part / "lock"), continued(self.part):
                self._take_up({**options, "shard": str(self.shard)} if self.shard else options)
                yield
                self._commit(self._rows)
                join()
                if self.shard:
                    places = [row["place"] for chunk in self.rows("place") for row in chunk]
                    counts = {"clips": self.clips, "failed": self.failed, "warned": self.warned}
                    describe_part(self.output, self.shard, places, dict(options), **counts)
                (self.part / _OPTIONS).unlink()
        except (OSError, RunError) as error:
            cause = error.__cause__ if isinstance(error, RunError) else error
            if not isinstance(cause, OSError) or isinstance(cause, TimeoutError):  # of the lock
                raise
            kept = f"what was written is kept in {self.part}: make room and run the same command again"
            reason = f"cannot write {self.output}: {cause.strerror or cause}"
            raise AffettoError(
                f"{reason}; {kept if self.begun else 'name another output, or make room there'}"
            ) from error
        self.remove()

    def rest(self, everything: Iterable[Item], name: Callable[[Item], str]) -> Iterator[Item]:
        """Yields the recordings that are not in yet; one that is listed twice must be in twice."""
        for item in everything:
            if len(self._done):
                own = np.array(_hash(_stored(name(item))), _HASH)
                place = min(int(self._done.searchsorted(own)), len(self._done) - 1)
                if self._done[place] == own and self._left[place]:
                    self._left[place] -= 1
                    continue
            yield item

    def add(self, name: str, row: Row, last: bool = True) -> None:
        """Adds a row of the recording ``name``; ``last`` when no further row of it follows."""
        cells = {column: _stored(row[column]) for column in self.types}
        cells |= {"place": row["place"]} if self.shard else {}
        self._rows.append({"clip": _stored(name), "last": last, **cells})
        self._bytes += len(row.get("vectors") or b"")
        if last:
            self._whole += 1
            self.clips += 1
            self.failed += row["error"] is not None
            self.warned += row.get("warning") is not None
        if self._whole >= SHARD_CLIPS or len(self._rows) >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            # Rows of a recording that is not finished make a shard of their own, which can be dropped.
            split = max((place + 1 for place, each in enumerate(self._rows) if each["last"]), default=0)
            self._commit(self._rows[:split])
            self._commit(self._rows[split:])
            self._rows, self._whole, self._bytes = [], 0, 0

    def rows(self, *columns: str, errors: str = "surrogateescape") -> Iterator[list[Row]]:
        """Yields the rows of one shard after another; ``errors`` is of text that is no UTF-8."""
        texts = self._texts.intersection(columns or self._schema.names)
        for shard in self._shards():
            with parquet.ParquetFile(shard) as file:
                rows = file.read(list(columns) or None).to_pylist()
            for row in rows:
                for name in texts:
                    row[name] = None if row[name] is None else row[name].decode(errors=errors)
            yield rows

    def remove(self) -> None:
        """Removes the folder of the shards."""
        shutil.rmtree(self.part, ignore_errors=True)

    def _shards(self) -> list[Path]:
        return sorted(self.part.glob("part-*.parquet"), key=lambda shard: int(shard.stem[5:]))

    def _take_up(self, options: Mapping[str, Any]) -> None:
        if not self.begun:
            for shard in self._shards():  # stopped while they were being removed
                shard.unlink()
            write_json(self.part / _OPTIONS, dict(options))
            return
        begun = read_json(self.part / _OPTIONS)
        if begun != options:
            changed = sorted(name for name in options if begun.get(name) != options[name])
            raise RunError(
                f"{self.part} was begun with other options ({', '.join(changed) or 'of another version'}); "
                "run that command again, or remove it, or name another output"
            )
        shards, whole = self._shards(), 0
        found: list[NDArray[np.bytes_]] = []
        for number, ends in enumerate(self._read(shards), 1):
            whole = number if ends else whole  # else one of a recording whose last row is missing
            kept = [row for row in ends if row["error"] is None or not self.retry]
            found.append(np.array([_hash(row["clip"]) for row in kept], _HASH))
            self.failed += sum(row["error"] is not None for row in kept)
            self.warned += sum(row.get("warning") is not None for row in kept)
        for shard in shards[whole:]:
            shard.unlink()
        self._number = int(shards[whole - 1].stem[5:]) + 1 if whole else 0
        if found:
            self._done, self._left = np.unique(np.concatenate(found), return_counts=True)
        self.clips = self.resumed = int(self._left.sum())

    def _read(self, shards: list[Path]) -> Iterator[list[Row]]:
        """Yields the last rows of recordings, shard by shard, up to one that the disk damaged."""
        for shard in shards:
            try:
                with parquet.ParquetFile(shard, page_checksum_verification=True) as file:
                    table = file.read()
            except (OSError, ValueError):
                return
            yield table.filter(table["last"]).select(["clip", *self._said]).to_pylist()

    def _commit(self, rows: list[Row]) -> None:
        if not rows:
            return
        sink = pyarrow.BufferOutputStream()
        table = pyarrow.Table.from_pylist(rows, self._schema)
        parquet.write_table(table, sink, compression="none", use_dictionary=False, write_page_checksum=True)
        with atomic_write(self.part / f"part-{self._number:05d}.parquet") as temporary:
            temporary.write_bytes(sink.getvalue())
        self._number += 1


def write_npy(path: Path, dim: int, shards: Shards) -> None:
    """Writes the vectors of shards as an array ``(N, D)``."""
    count = sum(row["count"] or 0 for chunk in shards.rows("count") for row in chunk)
    vectors = (row["vectors"] for chunk in shards.rows("vectors") for row in chunk)
    write_array(path, count, dim, filter(None, vectors))


def typed(row: Row, types: Mapping[str, Any]) -> Row:
    """Returns a row that :func:`read_rows` gave, with numbers as such and None where nothing is."""
    return {name: None if value in ("", None) else _read(value, types[name]) for name, value in row.items()}


def _read(value: Any, kind: Any) -> Any:
    if kind == TEXT:
        return value
    return str(value) == "True" if kind == pyarrow.bool_() else float(value)


def rounded(value: Any) -> Any:
    """Returns a float to six digits, anything else as it is."""
    return round(value, _DIGITS) if isinstance(value, float) else value


def _hash(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=16).digest()


def _stored(value: Any) -> Any:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else rounded(value)
