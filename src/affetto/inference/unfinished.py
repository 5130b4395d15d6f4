"""A table of predictions on its way to disk: appended to, interrupted, taken up again, put in place."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from affetto.errors import AffettoError, RunError
from affetto.inference.rows import Predicted, Row
from affetto.inference.sources import Clip
from affetto.runs import atomic_write, locked

COMMIT_CLIPS = 256
"""Clips after which what was written is recorded as done."""

_BUFFER = 1 << 16  # characters
_PARQUET_ROWS = 8192
_DIGITS = 6


class UnfinishedTable:
    """The rows of an output that is not complete, and the log of what is among them.

    ``OUT.part`` holds the rows, for Parquet as JSON lines. ``OUT.part.log`` holds first the options, then a
    line each time a few hundred clips are through: which, how many failed, and the size of the part. What the
    part holds beyond that size was being written when its process was stopped, and is cut off.

    Args:
        path: the output, ``.csv``, ``.jsonl`` or ``.parquet``.
        names: its columns.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names
        self.part, self.log = (path.with_name(f"{path.name}.part{suffix}") for suffix in ("", ".log"))
        self._lock = path.with_name(f"{path.name}.part.lock")
        self.clips = self.failed = self.resumed = 0
        self._done: Counter[str] = Counter()
        self._csv = path.suffix.lower() == ".csv"
        self._pending = io.StringIO()
        self._fresh: list[str] = []
        self._fresh_failed = 0

    @contextmanager
    def opened(self, options: dict[str, Any]) -> Iterator[None]:
        """Holds both files for this process alone, as they were when last recorded.

        Raises:
            RunError: when another process holds them, or they were begun with other options.
            AffettoError: when they cannot be written.
        """
        with self.writing(), ExitStack() as stack:
            stack.enter_context(locked(self.path, self._lock))
            self._log: BinaryIO = stack.enter_context(open(self.log, "a+b"))
            self._part: BinaryIO = stack.enter_context(open(self.part, "a+b"))
            self._take_up(options)
            yield
            self._commit()
            os.fsync(self._part.fileno())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Words the errors of a disk that is full or cannot be written."""
        try:
            yield
        except OSError as error:
            raise AffettoError(
                f"cannot write {self.path}: {error.strerror or error}; what was written is kept in "
                f"{self.part}: make room and run the same command again"
            ) from error

    def rest(self, everything: Iterable[Clip]) -> Iterator[Clip]:
        """Yields the clips that are not in yet; one that is named twice comes to be in twice."""
        for clip in everything:
            name = _name(clip)
            if self._done[name]:
                self._done[name] -= 1
            else:
                yield clip

    def add(self, predicted: Predicted) -> None:
        """Appends the rows of a clip."""
        for row in predicted.rows:
            self._pending.write(csv_line(row, self.names) if self._csv else _json_line(row))
        if predicted.last:
            self._fresh.append(_name(predicted.clip))
            self._fresh_failed += predicted.rows[-1]["error"] is not None
            if len(self._fresh) >= COMMIT_CLIPS:
                self._commit()
        elif self._pending.tell() > _BUFFER:
            self._flush()

    def finish(self) -> None:
        """Puts the output in place, and removes the log."""
        with self.writing():
            if self.path.suffix.lower() == ".parquet":
                with atomic_write(self.path) as temporary:
                    _to_parquet(self.part, temporary, self.names)
                self.part.unlink()
            else:
                os.replace(self.part, self.path)
            self.log.unlink()
            self._lock.unlink(missing_ok=True)

    def _take_up(self, options: dict[str, Any]) -> None:
        self._log.seek(0)
        *lines, torn = self._log.read().split(b"\n")
        entries = [json.loads(line) for line in lines]
        begun = entries.pop(0) if entries else None
        if begun is not None and begun != options:
            changed = sorted(name for name in options if begun.get(name) != options[name])
            raise RunError(
                f"{self.part} was begun with other options ({', '.join(changed) or 'of another version'}); "
                "run that command again, or remove it, or name another output"
            )
        size = 0
        for entry in entries:
            self._done.update(entry["clips"])
            self.clips += len(entry["clips"])
            self.failed += entry["failed"]
            size = entry["bytes"]
        self.resumed = self.clips
        self._log.truncate(self._log.tell() - len(torn))
        self._part.truncate(size)
        if begun is None:
            self._record(options)
        if self._csv and not size:
            self._pending.write(csv_line(dict(zip(self.names, self.names, strict=True)), self.names))

    def _commit(self) -> None:
        self._flush()
        if self._fresh:
            size = os.fstat(self._part.fileno()).st_size
            self._record({"clips": self._fresh, "failed": self._fresh_failed, "bytes": size})
        self.clips += len(self._fresh)
        self.failed += self._fresh_failed
        self._fresh, self._fresh_failed = [], 0

    def _flush(self) -> None:
        self._part.write(encoded(self._pending.getvalue()))
        self._part.flush()
        self._pending = io.StringIO()

    def _record(self, entry: dict[str, Any]) -> None:
        self._log.write(json.dumps(entry).encode() + b"\n")
        self._log.flush()


def csv_line(row: Row, names: list[str]) -> str:
    """Returns a row as a line of CSV; what is not known is empty."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_shown(row[name]) for name in names])
    return line.getvalue()


def encoded(text: str) -> bytes:
    """Returns UTF-8; a file name that is no UTF-8 keeps its bytes."""
    return text.encode("utf-8", "surrogateescape")


def _name(clip: Clip) -> str:
    return json.dumps([clip.file, clip.start, clip.end])


def _shown(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value


def _json_line(row: Row) -> str:
    return json.dumps({name: _shown(value) for name, value in row.items()}, ensure_ascii=False) + "\n"


def _to_parquet(part: Path, target: Path, names: list[str]) -> None:
    """Turns JSON lines into Parquet, some thousand rows at a time."""
    import pyarrow.parquet  # type: ignore[import-untyped]

    kinds = dict.fromkeys(("file", "label", "error"), pyarrow.string())
    kinds |= {"enrolment": pyarrow.int64(), "enrolled": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in names])
    with (
        open(part, encoding="utf-8", errors="replace") as lines,
        pyarrow.parquet.ParquetWriter(target, schema) as writer,
    ):
        rows: list[Row] = []
        for line in lines:
            rows.append(json.loads(line))
            if len(rows) == _PARQUET_ROWS:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
