"""Vectors on their way to disk: appended to, interrupted, taken up again."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from affetto.errors import RunError


class VectorLog:
    """The vectors that are computed so far, by content hash, and which utterance has which hash.

    ``PART`` holds a record a vector: hash, vector, checksum. ``PART.rows`` gets a line of JSON each time some
    utterances are through, after their vectors. What was being written when the process was stopped is cut
    off.

    Args:
        path: ``PART``.
        dim: ``D``, size of a vector.

    Attributes:
        row: place of each vector, by hash.
        hash_of: hash of each utterance that is through, by :func:`identity`.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self.path, self.rows_path = path, path.with_name(f"{path.name}.rows")
        self.row: dict[str, int] = {}
        self.hash_of: dict[str, str] = {}
        self._record = np.dtype([("hash", "u1", (32,)), ("vector", "<f4", (dim,)), ("checksum", "<u4")])

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Opens both files for appending, as they were when last written whole.

        Raises:
            RunError: when they cannot be written, e.g. on a full disk.
        """
        try:
            with ExitStack() as stack:
                self._part: BinaryIO = stack.enter_context(open(self.path, "a+b"))
                self._lines: BinaryIO = stack.enter_context(open(self.rows_path, "a+b"))
                self._take_up()
                yield
        except OSError as error:
            raise RunError(
                f"cannot write {self.path}: {error.strerror or error}; what was written is kept: make room "
                "there and run the same command again"
            ) from error

    def append(
        self, hashes: Sequence[str], vectors: NDArray[np.float32], utterances: Mapping[str, str]
    ) -> None:
        """Adds vectors ``(R, D)`` with their hashes, and then the hashes of utterances by identity."""
        records = np.zeros(len(hashes), self._record)
        records["hash"] = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 32)
        records["vector"] = vectors
        records["checksum"] = [_checksum(record) for record in records]
        self._part.write(records.tobytes())
        self._part.flush()
        self._lines.write(json.dumps(dict(utterances)).encode() + b"\n")
        self._lines.flush()
        for each in hashes:
            self.row[each] = len(self.row)
        self.hash_of.update(utterances)

    def vectors(self) -> NDArray[np.float32]:
        """Returns all vectors, ``(R, D)``, mapped from the disk."""
        if not self.row:  # an empty file cannot be mapped
            return np.zeros((0, self._record["vector"].shape[0]), np.float32)
        vectors: NDArray[np.float32] = np.memmap(self.path, self._record, mode="r")["vector"]
        return vectors

    def remove(self) -> None:
        """Removes both files."""
        for path in (self.path, self.rows_path):
            path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        whole = self.path.stat().st_size // self._record.itemsize
        records = np.memmap(self.path, self._record, mode="r", shape=(whole,)) if whole else np.zeros(0)
        for number, record in enumerate(records):
            if record["checksum"] != _checksum(record):
                break
            self.row[record["hash"].tobytes().hex()] = number
        del records
        self._part.truncate(len(self.row) * self._record.itemsize)
        self._lines.seek(0)
        *lines, torn = self._lines.read().split(b"\n")
        self._lines.truncate(self._lines.tell() - len(torn))
        for line in lines:
            with suppress(ValueError):  # what a machine that lost its power left; the utterances come again
                known = json.loads(line)
                self.hash_of.update({key: value for key, value in known.items() if value in self.row})


def identity(path: Path, start: float | None, end: float | None) -> str:
    """Returns what tells one state of an utterance from another without decoding it."""
    try:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
    except OSError:  # it is missing, and reported when decoded
        stamp = (-1, -1)
    return hashlib.sha256(json.dumps([os.fspath(path), start, end, *stamp]).encode()).hexdigest()[:32]


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["vector"].tobytes(), zlib.crc32(record["hash"].tobytes()))
