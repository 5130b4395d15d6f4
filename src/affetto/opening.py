"""Opens recordings, by libsndfile, or else by FFmpeg: headers that say too little, errors and notes.

libsndfile would silently read a part, or nothing, of a recording whose header says too little.
"""

import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from affetto.errors import AffettoError, AudioError
from affetto.media import AUDIO, FORMATS, UNTOLD_FORMATS, Readable, to_wave
from affetto.members import open_member

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_KBITS = {  # by version (1, or 2 and 2.5) and layer
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SLACK_SECONDS = 0.5  # decoders leave out what encoders add
_SLACK_BYTES = 4096  # of tags at the end
_UNKNOWN = 1 << 62
_MPEG_SLACK_FRAMES = 4 * 1152  # encoder delay and padding, which few MP3 headers count
_STREAMED_BYTES = 0x7FFF0000  # a size from here on stands for "unknown" in files written to a pipe
_STREAMED_SIZES = (2_000_000_000,)  # that programs write for it
_HEADER_BYTES = 64  # by which a header may count itself as sound
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNTS = re.compile(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


def part_only(file: soundfile.SoundFile, target: str | BinaryIO) -> str:
    """Returns why libsndfile would read less than ``target`` holds, or "" where it reads all."""
    if file.format == "FLAC" and file.frames >= _UNKNOWN:
        return "its header does not say how long it is"
    if file.format not in ("OGG", "MP3", "MPEG") and (file.format not in ("WAV", "WAVEX") or file.frames):
        return ""
    with from_start(target) as handle:
        return _in_part(file, handle)


@contextmanager
def from_start(target: str | BinaryIO) -> Iterator[BinaryIO]:
    """Yields a file at its beginning; one that was open before is left where it was."""
    with open(target, "rb") if isinstance(target, str) else nullcontext(target) as handle:
        position = handle.tell()
        handle.seek(0)
        try:
            yield handle
        finally:
            handle.seek(position)


def id3_bytes(data: bytes, place: int = 0) -> int:
    """Returns the size of the ID3 tag that begins at a place; 0 where none does."""
    if data[place : place + 3] != b"ID3" or place + 10 > len(data):
        return 0
    # Its length is written in four bytes of seven bits.
    sizes = zip(data[place + 6 : place + 10], (21, 14, 7, 0), strict=True)
    return 10 + sum((byte & 127) << shift for byte, shift in sizes)


def _in_part(file: soundfile.SoundFile, handle: BinaryIO) -> str:
    seconds = file.frames / file.samplerate
    if file.format == "OGG":
        links = _links(handle)
        reason = f"it is {links} recordings one after another, of which {seconds:.2f} s would be read"
        return reason if links > 1 else ""
    if file.format in ("WAV", "WAVEX"):
        return "its header says that it holds no samples" if _hides_samples(handle) else ""
    there = _mpeg_seconds(handle)
    more = there > seconds + _SLACK_SECONDS
    return f"it holds {there:.2f} s, of which {seconds:.2f} s would be read" if more else ""


def _hides_samples(handle: BinaryIO) -> bool:
    """Whether what follows a data chunk of size 0 is no chunk, so that it is samples."""
    head = handle.read(1 << 16)
    place = head.find(b"data\0\0\0\0")
    end = handle.seek(0, 2)
    if place < 0 or end - place < 8 + 16:
        return False
    name, size = head[place + 8 : place + 12], int.from_bytes(head[place + 12 : place + 16], "little")
    return not (name.isalnum() and place + 16 + size <= end + 1)


def _links(handle: BinaryIO) -> int:
    """Counts the recordings that are chained in an Ogg file."""
    count, within = 0, False
    while (page := handle.read(27)) and len(page) == 27 and page[:4] == b"OggS":
        begins = bool(page[5] & 2)
        count += begins and not within  # streams that are side by side all begin before any goes on
        within = begins
        handle.seek(sum(handle.read(page[26])), 1)
    return count


def _mpeg_seconds(handle: BinaryIO) -> float:
    """Adds up the frames of an MPEG file; tags between them, and what is damaged, are passed over.

    0 where the header counts as many bytes as there are: then its length holds.
    """
    head = handle.read(1 << 16)
    mark = max(head.find(b"Xing"), head.find(b"Info"))
    if mark >= 0 and len(head) >= mark + 16 and head[mark + 7] & 3 == 3:
        there = handle.seek(0, 2) - mark
        if abs(int.from_bytes(head[mark + 12 : mark + 16]) - there) < _SLACK_BYTES:
            return 0.0
    handle.seek(0)
    data = handle.read()
    place, seconds = 0, 0.0
    while place + 4 <= len(data):
        if tag := id3_bytes(data, place):
            place += tag
            continue
        size, length = _mpeg_frame(data, place)
        if not size:
            place = data.find(b"\xff", place + 1)
            if place < 0:
                break
            continue
        tagged = data.find(b"Xing", place, place + 48) >= 0 or data.find(b"Info", place, place + 48) >= 0
        seconds += 0.0 if tagged else length
        place += size
    return seconds


def _mpeg_frame(data: bytes, place: int) -> tuple[int, float]:
    """Returns the bytes and the seconds of the frame that begins there; 0 where none does."""
    (word,) = struct.unpack(">I", data[place : place + 4])
    version, layer, code, rate = word >> 19 & 3, word >> 17 & 3, word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or not layer or rate == 3 or not 0 < code < 15:
        return 0, 0.0
    hertz, bits = _RATES[version][rate], 1000 * _KBITS[version == 3, layer][code - 1]
    padding = word >> 9 & 1
    if layer == 3:
        return (12 * bits // hertz + padding) * 4, 384 / hertz
    samples = 1152 if layer == 2 or version == 3 else 576
    return samples // 8 * bits // hertz + padding, samples / hertz


def check_whole(file: soundfile.SoundFile, name: str) -> str:
    """Compares the header with what libsndfile found, which quietly repairs the difference.

    Returns a note where the header is wrong and all samples are there; an AudioError where some are missing.
    """
    log, note = file.extra_info, ""
    pairs = [(int(there), int(promised)) for there, promised in _COUNTS.findall(log)]
    for size, found in ((int(size), int(found)) for size, found in _SIZES.findall(log)):
        if size >= _STREAMED_BYTES or size in _STREAMED_SIZES or size - found <= _HEADER_BYTES:
            note = f"its header counts {size} bytes of sound, and there are {found}, which were read"
        else:
            pairs.append((file.frames, round(file.frames * size / max(found, 1))))
    for there, promised in pairs:
        if there < promised:
            raise truncated(name, there, promised, file.samplerate)
    # A stream without its end alone may be a live recording.
    unended = "lacks an end-of-stream bit" in log or "without an End-Of-Stream flag" in log
    if unended and "Junk after the last page" in log:
        raise truncated(name, file.frames, None, file.samplerate)
    return note


def truncated(name: str, there: int, promised: int | None, rate: int) -> AudioError:
    """Returns the error for a recording of which only some frames are there."""
    short = f"{name}: truncated: it holds {there / rate:.2f} s ({there} samples)"
    why = "it was cut within a page" if promised is None else f"its header promises {promised / rate:.2f} s"
    return AudioError(f"{short}, {why}; copy it again, or drop its row")


def only_estimated(file: soundfile.SoundFile, missing: int) -> bool:
    """Whether the length was a guess: an MP3 says how long it is only in a Xing or Info frame."""
    if file.format not in ("MP3", "MPEG"):
        return False
    if missing <= _MPEG_SLACK_FRAMES:
        return True
    with from_start(file.name) as handle:
        head = handle.read(1 << 20)
    size = id3_bytes(head)
    frame = head[size : size + 256]
    return not (b"Xing" in frame or b"Info" in frame)


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
