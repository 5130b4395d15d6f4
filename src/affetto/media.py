"""Recordings in folders, and those that libsndfile does not read, such as m4a: by PyAV, as a wave file."""

import io
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import soundfile

from affetto.errors import AudioError

_HEARD = "wav flac ogg oga opus mp3 aif aiff aifc au snd caf w64 rf64 sph nist voc"
AUDIO = frozenset(f".{name}" for name in _HEARD.split())
"""What is taken for a recording in a folder."""

_SUFFIXES = "3g2 3gp aac ac3 amr ape asf avi awb flv m4a m4b m4v mka mkv mov mp4 tta webm wma wmv wv"
MEDIA = frozenset(f".{name}" for name in _SUFFIXES.split())
"""What is taken for a recording in a folder besides the formats of libsndfile."""

# Files that lie with recordings and hold none: the only ones that are passed over without a word.
_PAPERS = (
    "bib cfg csv css doc docx eaf egemaps htm html ini jpg json jsonl lab log md npy npz parquet pdf png"
)
_PAPERS += " py rst rttm sh srt svg textgrid toml trn tsv txt url vtt xls xlsx xml yaml yml"
_NO_SOUND = frozenset(f".{name}" for name in _PAPERS.split())

# Without playlists and the like, which name other files or addresses; without what libsndfile checks better.
FORMATS = "aac,ac3,amr,ape,asf,avi,caf,flv,matroska,mov,tta,wav,webm,wv"
UNTOLD_FORMATS = "flac,mp3,ogg,wav"  # whose headers may say less than there is
_LONGEST = [24 * 3600.0]  # seconds: a small file may claim more silence than a disk holds
_SLACK_SECONDS = 0.25  # what encoders add at both ends, or leave out
_KEPT = 16  # wave files: more than there are threads


def recordings_below(folder: str | Path, passed: Counter[str]) -> Iterator[str]:
    """Yields the paths of recordings, in an order that does not change, and counts what is passed over.

    Links to folders are followed once all folders without one were read, and no folder is read twice.
    """

    def place(path: str | Path) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def closed(error: OSError) -> None:
        passed["that cannot be opened"] += 1

    links = [os.fspath(folder)]
    seen = {place(parent) for parent in Path(os.path.realpath(folder)).parents}
    for link in links:
        for parent, folders, files in os.walk(link, onerror=closed):
            if (here := place(parent)) in seen:
                passed["read by another path"] += 1
                folders.clear()
                continue
            seen.add(here)
            passed["hidden"] += sum(name.startswith(".") for name in (*folders, *files))
            shown = sorted(name for name in folders if not name.startswith("."))
            folders[:] = [name for name in shown if not os.path.islink(os.path.join(parent, name))]
            links += [os.path.join(parent, name) for name in shown if name not in folders]
            for name in sorted(files):
                suffix = os.path.splitext(name)[1].lower()
                if suffix in AUDIO | MEDIA and not name.startswith("."):
                    yield os.path.join(parent, name)
                elif suffix not in _NO_SOUND and not name.startswith("."):
                    passed[suffix or "without a suffix"] += 1


def passed_over(folder: str | Path, passed: Counter[str]) -> str:
    """Returns what was passed over below a folder as a sentence; "" where nothing was."""
    counts = ", ".join(f"{count} {what}" for what, count in passed.most_common() if count)
    return f"passed over below {folder}: {counts}" if counts else ""


def limit_seconds(seconds: float) -> None:
    """Refuses longer sound of such formats, in this process."""
    _LONGEST[0] = seconds


def forget_waves() -> None:
    """Removes the wave files that are kept for the next call, once they are not in use."""
    _of_file.cache_clear()


class Readable:
    """An open file that may be asked to seek to any place, as damaged headers make decoders do."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def seek(self, place: int, whence: int = 0) -> int:
        """Seeks; returns the place, or -1 where there is none."""
        try:
            return int(self._handle.seek(place, whence))
        except (OSError, ValueError, OverflowError):
            return -1


class Wave:
    """A wave file of 32-bit floats in a temporary folder; ``path`` ends with the object."""

    def __init__(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self.path = f"/proc/self/fd/{file.fileno()}"  # has no name, so that kill -9 leaves nothing
        weakref.finalize(self, file.close)
        if not os.path.exists(self.path):  # not Linux
            handle, self.path = tempfile.mkstemp(".w64", "affetto-")
            os.close(handle)
            weakref.finalize(self, _remove, self.path)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def to_wave(source: str | bytes, name: str, why_not: str, formats: str) -> Wave:
    """Writes the first sound track of a path or of bytes to a wave file, which is kept for the next call.

    Channels and rate stay. ``why_not`` is why libsndfile does not read it; ``formats`` what FFmpeg may.

    Raises:
        AudioError: where PyAV is missing, or does not read it either, or the sound breaks off.
    """
    if isinstance(source, bytes):
        return _written(io.BytesIO(source), name, why_not, formats)
    status = os.stat(source)
    return _of_file(source, status.st_mtime_ns, status.st_size, why_not, formats)


@lru_cache(_KEPT)  # one recording is opened for its header, and again for each of its segments
def _of_file(path: str, changed: int, size: int, why_not: str, formats: str) -> Wave:
    with open(path, "rb") as handle:
        return _written(handle, path, why_not, formats)


def _written(handle: Any, name: str, why_not: str, formats: str) -> Wave:
    try:
        av = import_module("av")
    except ImportError as error:
        raise AudioError(
            f"{name}: {why_not}; m4a, mp4, webm, amr and the like, and headers that say too little, need "
            "PyAV: pip install 'affetto[media]'"
        ) from error
    wave, seconds = Wave(), 0.0
    try:
        options = {"format_whitelist": formats}
        with av.open(Readable(handle), options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: it holds no sound; name another file, or drop its row")
            stream = container.streams.audio[0]
            seconds = _decode(av, container, stream, wave.path, name)
            expected = _promised(container, stream)
    except AudioError:
        raise
    except Exception as error:  # damaged files make PyAV raise half a dozen kinds
        reason = str(getattr(error, "strerror", None) or error)
        raise AudioError(
            f"{name}: {why_not}, and FFmpeg does not read it ({reason}); convert it to WAV or FLAC, copy it "
            "again, or drop its row"
        ) from error
    if seconds < expected - _SLACK_SECONDS:
        raise AudioError(
            f"{name}: truncated: it holds {seconds:.2f} s, its header promises {expected:.2f} s; "
            "copy it again, or drop its row"
        )
    return wave


def _promised(container: Any, stream: Any) -> float:
    """Returns the seconds that a header promises; 0 for a format that only estimates them, and for none."""
    if "mov" in container.format.name:
        return float((stream.duration or 0) * stream.time_base)
    alone = "matroska" in container.format.name and len(container.streams) == 1
    return float(container.duration or 0) / 1e6 if alone else 0.0


def _decode(av: Any, container: Any, stream: Any, path: str, name: str) -> float:
    """Decodes a stream into a wave file; returns its seconds."""
    frames = container.decode(stream)
    first = next(frames, None)
    if first is None:
        raise AudioError(f"{name}: it holds no samples; copy it again, or drop its row")
    # What a stream promises about rate and channels may differ from what its frames hold.
    resampler = av.AudioResampler("fltp", first.layout, first.sample_rate)
    rate, count = first.sample_rate, 0
    with soundfile.SoundFile(path, "w", rate, first.layout.nb_channels, "FLOAT", format="W64") as file:
        frame = first
        while count <= _LONGEST[0] * rate:
            for part in resampler.resample(frame):
                file.write(part.to_ndarray().T)
                count += part.samples
            if frame is None:
                return float(count / rate)
            frame = next(frames, None)
    raise AudioError(f"{name}: it is longer than {_LONGEST[0] / 60:.0f} minutes; cut it into parts")
