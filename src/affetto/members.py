"""Recordings in tar files, read by their place: ``FILE.tar/OFFSET+BYTES/NAME`` is a path as any other.

Such a path needs no index, and it keeps its meaning in every table that takes over the column ``file``.
"""

import io
import os
import re
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from affetto.errors import AudioError

ENCODINGS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
"""Format and subtype of libsndfile, by the suffix of members that affetto writes."""

_PLACE = re.compile(r"(.+?\.tar)[/\\](\d+)\+(\d+)[/\\].+", re.IGNORECASE | re.DOTALL)
_SIZE = slice(124, 136)  # of the header of a member: its size in octal digits
_AT_ONCE = 1 << 22  # bytes; a longer member is read bit by bit


class Member(NamedTuple):
    """A recording in a tar file: the path of that file, the first byte in it, and how many there are."""

    tar: str
    offset: int
    size: int


def member_of(path: str | Path) -> Member | None:
    """Returns what a path names in a tar file; None for the path of a file."""
    name = os.fspath(path)
    found = _PLACE.fullmatch(name) if "+" in name else None
    return found and Member(found[1], int(found[2]), int(found[3]))


def member_name(tar: str, offset: int, size: int, name: str) -> str:
    """Returns the path that :func:`member_of` takes apart."""
    return f"{tar}/{offset}+{size}/{name}"


class NamedBytes(io.BytesIO):
    """The bytes of a recording, with the name to call it by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class _Part(io.RawIOBase):
    """Some bytes of a file as a file of its own."""

    def __init__(self, member: Member, name: str) -> None:
        self.name, self._size, self._at = name, member.size, 0
        self._file, self._begin = open(member.tar, "rb", buffering=0), member.offset  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._begin + self._at)
        count = self._file.readinto(memoryview(buffer)[:left]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def open_member(path: str | Path) -> io.BytesIO | io.BufferedReader | None:
    """Opens a recording in a tar file; None for any other path.

    Raises:
        AudioError: where the tar file is missing, or holds something else in that place.
    """
    member, name = member_of(path), os.fspath(path)
    if member is None or os.path.isfile(name):
        return None
    short = member.size <= _AT_ONCE
    try:
        with open(member.tar, "rb", buffering=0) as file:
            file.seek(max(0, member.offset - tarfile.BLOCKSIZE))
            data = file.read(tarfile.BLOCKSIZE + (member.size if short else 0))
        size = int(data[_SIZE].strip(b"\0 "), 8)  # TarInfo takes as long as reading from the disk
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{name}: {member.tar} cannot be read ({reason}); check the corpus root") from error
    except ValueError as error:
        raise _changed(name, member) from error
    if size != member.size or (short and len(data) < tarfile.BLOCKSIZE + member.size):
        raise _changed(name, member)
    if short:
        return NamedBytes(data[tarfile.BLOCKSIZE :], name)
    return io.BufferedReader(_Part(member, name), _AT_ONCE)


def _changed(name: str, member: Member) -> AudioError:
    return AudioError(
        f"{name}: {member.tar} has no recording of {member.size} bytes in this place; copy it again, or make "
        "the manifest again with affetto scan"
    )


def file_stamp(path: str | Path) -> tuple[int, int]:
    """Returns size and time of change of a recording; -1 for one that is missing, which decoding reports."""
    with suppress(OSError, ValueError):
        if member := member_of(path):
            return member.size, os.stat(member.tar).st_mtime_ns
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return -1, -1


def encoded(samples: NDArray[np.int16], rate: int, suffix: str) -> bytes:
    """Returns mono samples ``(S,)`` as a file of :data:`ENCODINGS`."""
    file = io.BytesIO()
    form, subtype = ENCODINGS[suffix]
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=form) as sound:
        sound.write(samples)
    return file.getvalue()
