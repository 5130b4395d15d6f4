"""Decode, mix, resample; with ``media.py`` the only file that knows audio formats.

Everything after this file sees one kind of signal: mono, 16 kHz, float32, full scale at ±1.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affetto.channels import Cutter, channel_weights, gram_of, mixed
from affetto.errors import AudioError
from affetto.opening import Notes, Source, check_whole, only_estimated, opened, truncated

SAMPLE_RATE = 16_000
"""Samples per second of every signal inside affetto."""

_SLACK_SECONDS = 0.25  # by which an annotated end may pass the last sample
_AT_ONCE = 1 << 22  # numbers that are decoded at once


class AudioInfo(NamedTuple):
    """The header of a recording: samples per second, channels, samples per channel, seconds."""

    rate: int
    channels: int
    frames: int
    duration_seconds: float


def read_info(source: Source, notes: Notes | None = None) -> AudioInfo:
    """Reads the header of a recording; raises AudioError and fills ``notes`` as :func:`decode` does."""
    with opened(source, notes) as (file, _):
        return AudioInfo(file.samplerate, file.channels, file.frames, file.frames / file.samplerate)


def decode(
    source: Source,
    start: float | None = None,
    end: float | None = None,
    *,
    channel: int | None = None,
    notes: Notes | None = None,
) -> NDArray[np.float32]:
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
        channel: the only one to read, counted from 1.
        notes: filled with what is odd: a header that says nothing or something wrong, where all samples could
            be read all the same, and channels that were left out.

    Raises:
        AudioError: names the file and the fault: missing, empty, not audio, truncated, no samples, NaN or
            infinite samples, a part that is outside.
    """
    notes = {} if notes is None else notes
    with opened(source, notes) as (file, name):
        first, last = part_of(file.frames, file.samplerate, name, start, end)
        if first:
            file.seek(first)
        samples = _read(file, name, first, last)
        return _finish(_one(samples, channel, name, notes), file.samplerate, name)


def prepare(
    samples: NDArray[Any], rate: int, *, channel: int | None = None, notes: Notes | None = None
) -> NDArray[np.float32]:
    """Turns an array into what :func:`decode` would have made of it.

    Args:
        samples: ``(S,)``, ``(channels, S)`` or ``(S, channels)``; the shorter axis is the channels. Integers
            are scaled by the range of their type, unsigned bytes about 128; floats are taken as they are.
        rate: samples per second of the array.
        channel: the only one to read, counted from 1.
        notes: filled with what is odd about its channels.

    Raises:
        AudioError: for an array of another shape or type, without samples, or with NaN or infinite ones.
    """
    if not float(rate) > 0:
        raise AudioError(f"got a rate of {rate}; a positive number of samples per second is needed")
    array = _one(_floats(samples), channel, "the array", {} if notes is None else notes)
    return _finish(array, rate, "the array")


def mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Averages the channels of a block of a stream, as :func:`prepare` takes it, floats in ±1, ``(S,)``."""
    return mixed(_floats(samples))


def _one(samples: NDArray[np.float32], channel: int | None, name: str, notes: Notes) -> NDArray[np.float32]:
    """Makes one channel of samples ``(S, channels)`` or ``(S,)``."""
    if channel is None:
        return mixed(samples, _noted(gram_of(samples), notes))
    return mixed(samples, _alone(channel, samples.shape[1] if samples.ndim == 2 else 1, name))


def _noted(gram: NDArray[np.float64], notes: Notes) -> NDArray[np.float32] | None:
    weights, note = channel_weights(gram)
    if note:
        notes["channels"] = note
    return weights


def _alone(channel: int, count: int, name: str) -> NDArray[np.float32]:
    """Returns the weights by which one channel is taken alone."""
    if not 1 <= channel <= count:
        raise AudioError(f"{name}: got channel {channel} of a recording with {count}; 1 is the first")
    return np.asarray(np.arange(count) == channel - 1, np.float32)


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
    *,
    channel: int | None = None,
    notes: Notes | None = None,
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
    notes = {} if notes is None else notes
    pieces: Iterable[NDArray[np.float32]]
    pieces = [source] if isinstance(source, np.ndarray) else _stream(source, start, end, channel, notes)
    for piece in pieces:
        yield from ((begin / SAMPLE_RATE, block) for begin, block in cutter.push(piece))
    yield from ((begin / SAMPLE_RATE, block) for begin, block in cutter.rest())


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Stores samples in 16 bits: full scale ±1 becomes ±32768, values beyond are clipped."""
    return np.asarray(np.rint(samples * np.float32(32768.0)).clip(-32768, 32767), np.int16)


def from_int16(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Undoes :func:`to_int16`; the 16-bit PCM of a 16 kHz file survives both exactly."""
    return samples.astype(np.float32) * np.float32(1 / 32768)


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
        raise truncated(name, _count(file), file.frames, file.samplerate) from error
    samples = parts[1] if len(parts) == 2 else np.concatenate(parts)
    if len(samples) < last - first and not only_estimated(file, last - first - len(samples)):
        raise truncated(name, first + len(samples), file.frames, file.samplerate)
    if last == file.frames and file.format == "OGG":
        check_whole(file, name)  # whether an Ogg stream was ended shows only at its end
    return samples


def _count(file: soundfile.SoundFile) -> int:
    """Counts the frames in front of the place where a damaged file stops decoding."""
    count = 0
    buffer = np.empty((1024, file.channels), np.float32)
    with suppress(soundfile.LibsndfileError):
        file.seek(0)
        while got := len(file.read(out=buffer)):
            count += got
    return count


def _stream(
    source: Source, start: float | None, end: float | None, channel: int | None, notes: Notes
) -> Iterator[NDArray[np.float32]]:
    """Yields mono pieces at 16 kHz of about a second each."""
    with opened(source, notes) as (file, name):
        resampler = None
        if file.samplerate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        first, last = part_of(file.frames, file.samplerate, name, start, end)
        weights = None if channel is None else _alone(channel, file.channels, name)
        if channel is None and file.channels > 1:
            weights = _noted(_gram_of_part(file, name, first, last), notes)
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


def _gram_of_part(file: soundfile.SoundFile, name: str, first: int, last: int) -> NDArray[np.float64]:
    """Returns the inner products of channels over a part, which is read once for them alone."""
    gram = np.zeros((file.channels, file.channels))
    file.seek(first)
    with suppress(AudioError):  # of the end of a damaged one; what comes before is still to be given
        for begin in range(first, last, file.samplerate):
            samples = _read(file, name, begin, min(begin + file.samplerate, last))
            if not len(samples):
                break
            gram += gram_of(samples)
    return gram


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
