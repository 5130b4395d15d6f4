"""Recordings, folders, manifests and arrays, cut into pieces of sound for a network."""

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Union

import numpy as np
import soxr
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE, blocks, decode, mono, prepare, read_info
from affetto.channels import Cutter
from affetto.errors import AudioError, ConfigError, ManifestError
from affetto.media import passed_over, recordings_below
from affetto.members import file_stamp
from affetto.opening import Notes
from affetto.runs import FORMATS

if TYPE_CHECKING:
    from affetto.corpora.manifest import Manifest

STREAM = "the stream"
LONG_SECONDS, PART_SECONDS = 60.0, 30.0
"""A longer recording is never decoded whole, and scored in parts of 30 s: their mean, weighted by length."""

_SURELY_SHORT = 1 << 12  # bytes: too few for silence in FLAC whose decoded samples would be a burden

Sound = Path | bytes | tuple[NDArray[Any], float]
Source = Union[str, Path, bytes, BinaryIO, tuple[NDArray[Any], float], "Manifest"]
"""A recording (path, bytes, open binary file, array with its rate), a folder, a manifest or its path."""

Sources = Source | Iterable[Source]
Root = str | Path | None
"""The folder that file names of a manifest are relative to; None for what the manifest says."""

Samples = NDArray[np.float32] | str | None
"""Samples ``(S,)``; None where they are too many to be held at once; a text where there are none: the error,
or "" for a recording that is left out."""


@dataclass(frozen=True)
class Windows:
    """How recordings are cut into pieces; without a length, long ones into parts of 30 s."""

    length: float | None = None  # seconds of a window
    hop: float | None = None  # seconds from one window to the next; None for half a window
    longest: float | None = None  # without a length: equal parts of at most so many seconds instead

    def __post_init__(self) -> None:
        if self.length is None:
            if self.hop is not None:
                raise ConfigError(f"got a hop of {self.hop} s without a window; name both")
        elif not 0 < self.step <= self.length:
            raise ConfigError(
                f"got windows of {self.length} s every {self.step} s; the hop must be above 0 and at most a "
                "window"
            )

    @property
    def step(self) -> float:
        """Seconds from one window to the next."""
        return (self.length or 0.0) / 2 if self.hop is None else self.hop


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A recording to predict, or a part of one."""

    file: str  # its name in the output: a path as it was given, or the manifest's name for it
    sound: Sound
    start: float | None = None  # seconds; None for the beginning; an array is the part itself
    end: float | None = None  # None for the end
    speaker: str | None = None  # corpus/speaker, corpus/ where no speaker is named, or file/speaker
    voice: str | None = None  # the speaker as tables show it
    fault: str = ""  # why it cannot be read, where that is known beforehand
    enrolled: bool = False  # whether its speaker was enrolled with it, so that it is not scored
    utterance: str = ""  # its key in the manifest
    channel: int | None = None  # the only one to read, counted from 1
    place: int = 0  # among all, where the run takes a share of them
    notes: Notes = field(default_factory=dict, init=False)  # filled by decoding: what is odd about it

    @property
    def key(self) -> str:
        """Identifies the clip, however its path was written."""
        place = os.path.abspath(self.sound) if isinstance(self.sound, Path) else self.file
        return json.dumps([place, self.start, self.end])

    @property
    def warning(self) -> str | None:
        """What is odd about the recording, though it was read; None where nothing is."""
        return "; ".join(self.notes.values()) or None


class Piece(NamedTuple):
    """A stretch of a clip that goes through the network at once, or the reason why there is none."""

    clip: Clip
    start: float  # seconds in the recording
    end: float
    samples: NDArray[np.float32] | None  # mono, 16 kHz, (S,); None once they are no longer needed
    fault: str = ""  # why the clip, or the rest of it, cannot be read
    last: bool = True  # whether no further piece of this clip follows


def is_recording(source: Any) -> bool:
    """Whether a source stands for one recording, and not for several."""
    if isinstance(source, str | Path):
        return not (Path(source).is_dir() or Path(source).suffix.lower() in FORMATS)
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "shape"):
        return isinstance(source[1], Real)
    return isinstance(source, bytes) or (hasattr(source, "read") and not _is_manifest(source))


def clips(sources: Sources, root: Root = None, channel: int | None = None) -> Iterator[Clip]:
    """Yields the recordings of sources, in an order that does not change; a warning counts other files.

    ``channel`` is the only one of each that is read, counted from 1.
    """
    one = is_recording(sources) or isinstance(sources, str | Path) or _is_manifest(sources)
    everything: Iterable[Any] = [sources] if one or not isinstance(sources, Iterable) else sources
    for number, source in enumerate(everything):
        for clip in _of_source(source, number, root):
            yield clip if channel is None else replace(clip, channel=channel)


def _of_source(source: Any, number: int, root: Root) -> Iterator[Clip]:
    if not is_recording(source):
        yield from _of_several(source, root)
    elif isinstance(source, str | Path):
        yield Clip(str(source), Path(source))
    else:
        name = str(getattr(source, "name", f"recording {number}"))
        yield Clip(name, source.read() if hasattr(source, "read") else source)


def decoded(clip: Clip) -> Samples:
    """Decodes a clip; one that was enrolled is passed over."""
    if clip.fault or clip.enrolled:
        return clip.fault
    try:
        if isinstance(clip.sound, tuple):
            return prepare(clip.sound[0], int(clip.sound[1]), channel=clip.channel, notes=clip.notes)
        if _is_long(clip.sound, clip.start or 0.0, math.inf if clip.end is None else clip.end):
            return None
        return decode(clip.sound, clip.start, clip.end, channel=clip.channel, notes=clip.notes)
    except AudioError as error:
        return fault_of(clip, error)


def fault_of(clip: Clip, error: Exception) -> str:
    """Returns what a row says of an error in reading a clip."""
    if isinstance(error, AudioError):
        return str(error)
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{clip.file}: it cannot be read ({reason}); copy it again, cut it into parts, or drop its row"


def cut(clip: Clip, samples: Samples, windows: Windows) -> Iterator[Piece]:
    """Cuts a clip, of which :func:`decoded` gave ``samples``, into pieces; decodes a long one bit by bit."""
    if isinstance(samples, str):
        yield Piece(clip, clip.start or 0.0, clip.start or 0.0, None, samples)
        return
    length, step = _lengths(samples, windows)
    sound: Any = clip.sound if samples is None else samples
    held: Piece | None = None
    try:
        parts = blocks(
            sound, length, length - step, clip.start, clip.end, channel=clip.channel, notes=clip.notes
        )
        for start, part in parts:
            if held:
                yield held
            begin = (clip.start or 0.0) + start
            held = Piece(clip, begin, begin + len(part) / SAMPLE_RATE, part, last=False)
    except (AudioError, MemoryError) as error:  # the end of a long recording may turn out to be missing
        if held:
            yield held
        reached = held.end if held else clip.start or 0.0
        yield Piece(clip, reached, reached, None, fault_of(clip, error))
        return
    assert held is not None  # audio never gives a recording without samples
    yield held._replace(last=True)


def _lengths(samples: NDArray[np.float32] | None, windows: Windows) -> tuple[float, float]:
    """Returns the length of a clip's pieces and the step between them, in seconds."""
    if windows.length is not None:
        return windows.length, windows.step
    if samples is not None and windows.longest is not None:
        parts = max(1, math.ceil(len(samples) / (windows.longest * SAMPLE_RATE)))
        length = math.ceil(len(samples) / parts) / SAMPLE_RATE
    else:
        long = samples is None or len(samples) > LONG_SECONDS * SAMPLE_RATE
        length = PART_SECONDS if long else LONG_SECONDS
    return length, length


def _is_long(sound: Path | bytes, start: float, end: float) -> bool:
    if end - start <= LONG_SECONDS:
        return False
    size = len(sound) if isinstance(sound, bytes) else file_stamp(sound)[0]
    return size > _SURELY_SHORT and min(read_info(sound).duration_seconds, end) - start > LONG_SECONDS


def _of_several(source: Any, root: Root) -> Iterator[Clip]:
    """Yields the recordings of a folder, of which it never holds all names, or of a manifest."""
    if not (isinstance(source, str | Path) or _is_manifest(source)):
        raise ConfigError(
            f"got {type(source).__name__}; a path, bytes, an open file, (array, rate), a folder, a manifest, "
            "or a list of these is needed"
        )
    if _is_manifest(source) or not Path(source).is_dir():
        yield from _of_manifest(source, root)
        return
    passed, found = Counter[str](), False
    for path in recordings_below(source, passed):
        found = True
        yield Clip(path, Path(path))
    others = passed_over(source, passed)
    if not found:
        raise AudioError(
            f"{source}: found no recording below this folder; name a file, or another folder"
            + (f"; {others}" if others else "")
            + ("; affetto scan table makes a manifest of tar files" if passed[".tar"] else "")
        )
    if others:
        warnings.warn(others, stacklevel=2)


def _is_manifest(source: Any) -> bool:
    return hasattr(source, "table") and hasattr(source, "located")


def _of_manifest(source: "str | Path | Manifest", root: Root) -> Iterator[Clip]:
    from affetto.corpora.manifest import Manifest

    parts = Manifest.parts(source, root) if isinstance(source, str | Path) else [source]
    for manifest in parts:
        columns = (manifest.table[name] for name in ("file", "start", "end", "corpus", "speaker", "key"))
        for file, start, end, corpus, speaker, key in zip(*columns, strict=True):
            fault = ""
            try:
                path = manifest.located(key, corpus, file)
            except ManifestError as error:
                path, fault = Path(file), str(error)
            # Where no speaker is named, all that is known of voice and room is the corpus.
            name = None if speaker is None and corpus is None else f"{corpus or ''}/{speaker or ''}"
            start, end = (None if math.isnan(second) else second for second in (start, end))
            yield Clip(file, path, start, end, name, speaker, fault, utterance=str(key))


def windows_of_stream(blocks: Iterable[NDArray[Any]], rate: int, windows: Windows) -> Iterator[Clip]:
    """Yields the windows of a stream as soon as each is complete, and at its end what remains."""
    cutter = stream_cutter(windows)
    for piece in _resampled((mono(block) for block in blocks), rate):
        yield from (window_clip(*window) for window in cutter.push(piece))
    yield from (window_clip(*window) for window in cutter.rest())


def stream_cutter(windows: Windows) -> Cutter:
    """Returns what cuts a stream into windows."""
    return Cutter(round((windows.length or 0.0) * SAMPLE_RATE), round(windows.step * SAMPLE_RATE))


def window_clip(begin: int, samples: NDArray[np.float32], speaker: str | None = None) -> Clip:
    """Returns a window, which begins at sample ``begin`` of a stream, as a clip of its own."""
    return Clip(STREAM, (samples, SAMPLE_RATE), start=begin / SAMPLE_RATE, speaker=speaker)


def _resampled(pieces: Iterator[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    # The end is not known before it is there.
    for piece in chain(pieces, [None]):
        samples = np.zeros(0, np.float32) if piece is None else piece
        yield resampler.resample_chunk(samples, last=piece is None)
