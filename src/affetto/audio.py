"""Decode, mix, resample; with ``media.py`` the only file that knows audio formats.

Everything after this file sees one kind of signal: mono, 16 kHz, float32, full scale at ±1.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affetto.channels import channel_weights, gram_of, mixed
from affetto.claims import from_start, id3_bytes, part_only
from affetto.cutting import Cutter
from affetto.errors import AudioError
from affetto.media import FORMATS, UNTOLD_FORMATS, Readable, to_wave

SAMPLE_RATE = 16_000
"""Samples per second of every signal inside affetto."""

Source = str | Path | bytes | BinaryIO
"""What a recording may be given as: a path, the bytes of a file, or an open binary file."""

_SLACK_SECONDS = 0.25  # by which an annotated end may pass the last sample
_MPEG_SLACK_FRAMES = 4 * 1152  # encoder delay and padding, which few MP3 headers count
_STREAMED_BYTES = 0x7FFF0000  # a size from here on stands for "unknown" in files written to a pipe
_STREAMED_SIZES = (2_000_000_000,)  # that programs write for it
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_AT_ONCE = 1 << 22  # numbers that are decoded at once
_HEADER_BYTES = 64  # by which a header may count itself as sound
_COUNTS = re.compile(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


class AudioInfo(NamedTuple):
    """The header of a recording: samples per second, channels, samples per channel, seconds."""

    rate: int
    channels: int
    frames: int
    duration_seconds: float


def read_info(source: Source) -> AudioInfo:
    """Reads the header of a recording; raises AudioError as :func:`decode` does."""
    with _opened(source) as (file, _):
        return AudioInfo(file.samplerate, file.channels, file.frames, file.frames / file.samplerate)


def decode(source: Source, start: float | None = None, end: float | None = None) -> NDArray[np.float32]:
    """Decodes a recording, or a part of it, to mono at 16 kHz, ``(S,)`` with ``S >= 1``.

    Channels are averaged, then resampled (soxr, high quality). Channels that are silent over all that is
    read, by 40 dB against the loudest, do not count; where the others cancel out, the loudest is taken.
    WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and whatever else libsndfile reads; m4a, mp4, webm, amr and the
    like with PyAV. Silence is not an error. A truncated file is detected wherever the format allows: an Ogg
    file that ends between two pages looks like a whole one.

    Args:
        source: a path, the bytes of a file, or an open binary file.
        start: first second to keep; None for the beginning.
        end: second to stop at; None for the end. It may pass the last sample by 0.25 s.

    Raises:
        AudioError: names the file and the fault: missing, empty, not audio, truncated, no samples, NaN or
            infinite samples, a part that is outside.
    """
    with _opened(source) as (file, name):
        first, last = part_of(file.frames, file.samplerate, name, start, end)
        if first:
            file.seek(first)
        samples = _read(file, name, first, last)
        return _finish(mixed(samples, channel_weights(gram_of(samples))), file.samplerate, name)


def prepare(samples: NDArray[Any], rate: int) -> NDArray[np.float32]:
    """Turns an array into what :func:`decode` would have made of it.

    Args:
        samples: ``(S,)``, ``(channels, S)`` or ``(S, channels)``; the shorter axis is the channels. Integers
            are scaled by the range of their type, unsigned bytes about 128; floats are taken as they are.
        rate: samples per second of the array.

    Raises:
        AudioError: for an array of another shape or type, without samples, or with NaN or infinite ones.
    """
    if not float(rate) > 0:
        raise AudioError(f"got a rate of {rate}; a positive number of samples per second is needed")
    array = _floats(samples)
    return _finish(mixed(array, channel_weights(gram_of(array))), rate, "the array")


def mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Averages the channels of a block of a stream, as :func:`prepare` takes it, floats in ±1, ``(S,)``."""
    return mixed(_floats(samples))


def _floats(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Returns an array in ±1, ``(S,)`` or ``(S, channels)``."""
    array = np.asarray(samples)
    if array.ndim not in (1, 2):
        raise AudioError(
            f"got an array of shape {array.shape}; (S,), (channels, S) or (S, channels) is needed"
        )
    if array.dtype.kind == "u":
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        array = (array - half) / half
    elif array.dtype.kind == "i":
        array = array / 2.0 ** (8 * array.dtype.itemsize - 1)
    elif array.dtype.kind != "f":
        raise AudioError(f"got an array of {array.dtype}; integers or floats are needed")
    if array.ndim == 2:
        array = array.T if array.shape[0] < array.shape[1] else array
    return array.astype(np.float32, copy=False)


def excerpt(samples: NDArray[np.float32], name: str, start: float, end: float) -> NDArray[np.float32]:
    """Returns a part of samples at 16 kHz; an AudioError as :func:`decode` raises, by the ``name``."""
    first, last = part_of(len(samples), SAMPLE_RATE, name, start, end)
    return samples[first:last]


def blocks(
    source: Source | NDArray[np.float32],
    seconds: float,
    overlap_seconds: float = 0.0,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Decodes a long recording, or its part, piece by piece, in memory that does not grow with its length.

    Block ``k`` begins ``k * (seconds - overlap_seconds)`` after ``start``; the last one is what remains, and
    holds something that no block before it held. Joined without overlaps, they are what :func:`decode`
    returns. Yields the second after ``start`` where a block begins, and its samples ``(S,)``, mono at 16 kHz.
    Such samples may also be the source, and are cut in the same way.

    Raises:
        AudioError: as :func:`decode`; for a truncated FLAC or MP3 only once its end is reached.
    """
    size, hop = round(seconds * SAMPLE_RATE), round((seconds - overlap_seconds) * SAMPLE_RATE)
    if not 0 < hop <= size:
        raise AudioError(
            f"got blocks of {seconds} s that overlap by {overlap_seconds} s; "
            "the length must be above 0 and the overlap at least 0 and below the length"
        )
    cutter = Cutter(size, hop)
    for piece in [source] if isinstance(source, np.ndarray) else _stream(source, start, end):
        yield from ((begin / SAMPLE_RATE, block) for begin, block in cutter.push(piece))
    yield from ((begin / SAMPLE_RATE, block) for begin, block in cutter.rest())


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Stores samples in 16 bits: full scale ±1 becomes ±32768, values beyond are clipped."""
    return np.asarray(np.rint(samples * np.float32(32768.0)).clip(-32768, 32767), np.int16)


def from_int16(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Undoes :func:`to_int16`; the 16-bit PCM of a 16 kHz file survives both exactly."""
    return samples.astype(np.float32) * np.float32(1 / 32768)


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins so is a text of git-lfs that stands for another."""
    return head.startswith(b"version https://git-lfs.")


@contextmanager
def _opened(source: Source) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """Opens a recording, with errors of our own; yields it with the name to call it by."""
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
    if why_not:
        if not isinstance(target, str):
            target.seek(before)
        wave = to_wave(target if isinstance(target, str) else target.read(), name, why_not, formats)
        file = soundfile.SoundFile(wave.path)
    try:
        with file:
            _check_whole(file, name)
            yield file, name
    except (MemoryError, ValueError, OverflowError, OSError, soundfile.SoundFileError) as error:
        # Damaged files find ways that no check foresees; one of them must not end what reads a million.
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise AudioError(
            f"{name}: it cannot be decoded ({reason}); convert it to WAV or FLAC, copy it again, or drop "
            "its row"
        ) from error


def _check_whole(file: soundfile.SoundFile, name: str) -> None:
    """Compares the header with what libsndfile found, which quietly repairs the difference."""
    log = file.extra_info
    pairs = [(int(there), int(promised)) for there, promised in _COUNTS.findall(log)]
    for size, found in _SIZES.findall(log):
        if (
            int(size) < _STREAMED_BYTES
            and int(size) not in _STREAMED_SIZES
            and int(size) - int(found) > _HEADER_BYTES
        ):
            pairs.append((file.frames, round(file.frames * int(size) / max(int(found), 1))))
    for there, promised in pairs:
        if there < promised:
            raise _truncated(name, there, promised, file.samplerate)
    # A stream without its end alone may be a live recording.
    unended = "lacks an end-of-stream bit" in log or "without an End-Of-Stream flag" in log
    if unended and "Junk after the last page" in log:
        raise _truncated(name, file.frames, None, file.samplerate)


def _truncated(name: str, there: int, promised: int | None, rate: int) -> AudioError:
    short = f"{name}: truncated: it holds {there / rate:.2f} s ({there} samples)"
    why = "it was cut within a page" if promised is None else f"its header promises {promised / rate:.2f} s"
    return AudioError(f"{short}, {why}; copy it again, or drop its row")


def part_of(frames: int, rate: int, name: str, start: float | None, end: float | None) -> tuple[int, int]:
    """Returns the first frame of a part and the one after the last; an AudioError where it is not inside."""
    duration = frames / rate
    begin = 0.0 if start is None else float(start)
    stop = duration if end is None else float(end)
    if frames and not (0 <= begin < duration and begin < stop <= duration + _SLACK_SECONDS):
        raise AudioError(
            f"{name}: got the part from {begin:g} s to {stop:g} s of a recording of {duration:.3f} s; "
            "it must lie inside and end after it begins"
        )
    first = min(round(begin * rate), max(frames - 1, 0))
    last = frames if end is None else min(round(stop * rate), frames)
    return first, max(last, min(first + 1, frames))


def _read(file: soundfile.SoundFile, name: str, first: int, last: int) -> NDArray[np.float32]:
    """Reads frames ``first`` to ``last``, ``(S, channels)``, and asks whether more should be there."""
    parts, left = [np.zeros((0, file.channels), np.float32)], last - first
    try:
        while left > 0:  # never as much at once as a header promises
            wanted = min(left, max(1, _AT_ONCE // file.channels))
            parts.append(file.read(wanted, dtype="float32", always_2d=True))
            left -= wanted
            if len(parts[-1]) < wanted:
                break
    except soundfile.LibsndfileError as error:
        raise _truncated(name, _count(file), file.frames, file.samplerate) from error
    samples = parts[1] if len(parts) == 2 else np.concatenate(parts)
    if len(samples) < last - first and not _only_estimated(file, last - first - len(samples)):
        raise _truncated(name, first + len(samples), file.frames, file.samplerate)
    if last == file.frames and file.format == "OGG":
        _check_whole(file, name)  # whether an Ogg stream was ended shows only at its end
    return samples


def _only_estimated(file: soundfile.SoundFile, missing: int) -> bool:
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


def _count(file: soundfile.SoundFile) -> int:
    """Counts the frames in front of the place where a damaged file stops decoding."""
    count = 0
    buffer = np.empty((1024, file.channels), np.float32)
    with suppress(soundfile.LibsndfileError):
        file.seek(0)
        while got := len(file.read(out=buffer)):
            count += got
    return count


def _stream(source: Source, start: float | None, end: float | None) -> Iterator[NDArray[np.float32]]:
    """Yields mono pieces at 16 kHz of about a second each."""
    with _opened(source) as (file, name):
        resampler = None
        if file.samplerate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        first, last = part_of(file.frames, file.samplerate, name, start, end)
        weights = _weights_of(file, name, first, last) if file.channels > 1 else None
        if first or file.channels > 1:
            file.seek(first)
        begin, total = first, 0
        while True:
            samples = mixed(_read(file, name, first, min(first + file.samplerate, last)), weights)
            first += len(samples)
            done = first >= last or len(samples) == 0
            _check(samples, name, needed=first == begin)
            piece = samples if resampler is None else resampler.resample_chunk(samples, last=done)
            total += len(piece)
            yield piece if total or not done else samples[:1]
            if done:
                return


def _weights_of(file: soundfile.SoundFile, name: str, first: int, last: int) -> NDArray[np.float32] | None:
    """Returns the weights of channels over a part, which is read once for them alone."""
    gram = np.zeros((file.channels, file.channels))
    file.seek(first)
    with suppress(AudioError):  # of the end of a damaged one; what comes before is still to be given
        for begin in range(first, last, file.samplerate):
            samples = _read(file, name, begin, min(begin + file.samplerate, last))
            if not len(samples):
                break
            gram += gram_of(samples)
    return channel_weights(gram)


def _check(samples: NDArray[np.float32], name: str, needed: bool = True) -> None:
    if len(samples) == 0 and needed:
        raise AudioError(f"{name}: it holds no samples; copy it again, or drop its row")
    bad = ~np.isfinite(samples)
    if bad.any():
        raise AudioError(
            f"{name}: {int(bad.sum())} of {len(samples)} samples are NaN or infinite; "
            "write the file again with finite samples, or drop its row"
        )


def _finish(samples: NDArray[np.float32], rate: int, name: str) -> NDArray[np.float32]:
    _check(samples, name)
    if rate != SAMPLE_RATE:
        resampled = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
        samples = resampled if len(resampled) else samples[:1]  # a sample or two at 96 kHz round to none
    return np.ascontiguousarray(samples)
