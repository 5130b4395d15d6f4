"""Headers that say too little: recordings of which libsndfile would silently read a part, or nothing."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import BinaryIO

import soundfile

from affetto.errors import AudioError

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
