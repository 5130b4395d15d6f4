"""Opens recordings: by libsndfile, or else by FFmpeg, with errors of our own and notes on odd headers."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from affetto.claims import check_whole, part_only
from affetto.errors import AffettoError, AudioError
from affetto.media import AUDIO, FORMATS, UNTOLD_FORMATS, Readable, to_wave
from affetto.members import open_member

Notes = dict[str, str]
"""What is odd about a recording, by kind: ``header`` or ``channels``."""

Source = str | Path | bytes | BinaryIO
"""What a recording may be given as: a path, the bytes of a file, or an open binary file."""

_LEAST_RATE = 1000  # samples a second


@contextmanager
def opened(source: Source, notes: Notes | None = None) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """Opens a recording, with errors of our own; yields it with the name to call it by."""
    notes = {} if notes is None else notes
    if isinstance(source, str | Path):
        source = open_member(source) or source
    if isinstance(source, str | Path):
        name = os.fspath(source)
        target: Any = name
        try:  # asked for once: a scan of 100,000 files waits for little else
            status = os.stat(name)
        except (OSError, ValueError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{name}: no such file; check the path and the corpus root")
        empty = status.st_size == 0
    else:
        handle: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        name = str(getattr(source, "name", "the recording"))
        target = handle = Readable(handle if handle.seekable() else io.BytesIO(handle.read()))
        before = handle.tell()
        empty = handle.seek(0, io.SEEK_END) == before
        handle.seek(before)
    if empty:
        raise AudioError(f"{name}: the file is empty (0 bytes); copy it again, or drop its row")
    try:
        file, note, _wave = _file_of(target, name)
        with file:
            if file.samplerate < _LEAST_RATE:  # 64 KiB at 1 Hz would be resampled to a day
                raise AudioError(
                    f"{name}: got {file.samplerate} samples a second; at least {_LEAST_RATE} are needed; "
                    "write the file again with its true rate, or drop its row"
                )
            for each in filter(None, (note, check_whole(file, name))):
                notes.setdefault("header", each)
            yield file, name
    except AffettoError:
        raise
    except Exception as error:
        # Damaged files find ways that no check foresees; one of them must not end what reads a million.
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise AudioError(
            f"{name}: it cannot be decoded ({reason}); convert it to WAV or FLAC, copy it again, or drop "
            "its row"
        ) from error


def _file_of(target: Any, name: str) -> tuple[soundfile.SoundFile, str, object]:
    """Opens what libsndfile, or else FFmpeg, reads; returns a note on its header, and what must live on."""
    before = 0 if isinstance(target, str) else target.tell()
    try:
        file = soundfile.SoundFile(target)
        why_not, formats = part_only(file, target), UNTOLD_FORMATS
    except UnicodeError as error:
        shown = name.encode("utf-8", "replace").decode()
        raise AudioError(f"{shown}: its name is not UTF-8; rename it") from error
    except (soundfile.LibsndfileError, OSError) as error:
        if isinstance(target, str):
            with open(target, "rb") as text:
                if is_pointer(text.read(64)):
                    message = f"{name}: a pointer of git-lfs, not the recording; git lfs pull fetches it"
                    raise AudioError(message) from None
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        why_not, formats = f"not audio that libsndfile reads, or cut off in its header ({reason})", FORMATS
    if not why_not:
        return file, "", None
    if not isinstance(target, str):
        target.seek(before)
    wave = to_wave(target if isinstance(target, str) else target.read(), name, why_not, formats)
    odd = formats == UNTOLD_FORMATS or os.path.splitext(name)[1].lower() in AUDIO
    return soundfile.SoundFile(wave.path), f"{why_not}; FFmpeg read all of it" if odd else "", wave


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins so is a text of git-lfs that stands for another."""
    return head.startswith(b"version https://git-lfs.")
