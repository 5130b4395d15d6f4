"""Segments of recordings: named by a file, or found by where somebody speaks."""

import csv
import hashlib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from affetto.audio import SAMPLE_RATE, excerpt
from affetto.errors import AudioError, ConfigError, some, unknown
from affetto.inference.activity import find_speech
from affetto.inference.sources import Clip, Root, Sources, clips, decoded
from affetto.progress import progress
from affetto.shards import Division, Shard


class Segment(NamedTuple):
    """A stretch of a recording, in seconds.

    ``file`` is the recording's name or the last parts of its path, also without its suffix; "" for the only
    recording there is.
    """

    file: str
    start: float
    end: float
    speaker: str | None = None


Segments = str | Path | Iterable[Segment]
"""A file of segments, a folder of such files, or the segments."""


class Cut:
    """Recordings, or the segments of them: clips that can be listed several times.

    ``sha256`` is of the segments that were named, "" without any. Of a ``shard`` the clips are those that
    belong to it, or with ``by_speaker`` whose speakers do; once they were listed, ``listed`` is the hash of
    the list of all, and ``has_speakers`` whether any of all has a speaker.
    """

    def __init__(
        self,
        sources: Sources,
        root: Root = None,
        segments: Segments | None = None,
        split: bool = False,
        channel: int | None = None,
        shard: Shard | None = None,
        by_speaker: bool = False,
    ) -> None:
        if segments is not None and split:
            raise ConfigError("got both segments and split; name one")
        self.sources = list(sources) if isinstance(sources, Iterator) else sources
        self.root, self.split, self.channel = root, split, channel
        self.shard, self.by_speaker, self.listed = shard, by_speaker, ""
        self.has_speakers = False
        self.in_segments, self.sha256 = split or segments is not None, ""
        self._segments = segments
        if segments is not None:
            self._given = read_segments(segments) if isinstance(segments, str | Path) else list(segments)
            self.sha256 = hashlib.sha256(repr(self._given).encode()).hexdigest()

    def __iter__(self) -> Iterator[Clip]:
        if self.split:
            return iter(self._clips)
        return self._own(iter(self._clips) if self.in_segments else self._recordings())

    @cached_property
    def _clips(self) -> list[Clip]:
        if self._segments is not None:
            return list(_named(self._recordings(), self._segments, self._given))
        everything = progress(self._own(self._recordings()), "split")
        return [part for clip in everything for part in _spoken(clip)]

    def _own(self, everything: Iterator[Clip]) -> Iterator[Clip]:
        if self.shard is None:
            yield from everything
            return
        division = Division(self.shard)
        for clip in everything:
            self.has_speakers |= clip.speaker is not None
            owner = clip.speaker if self.by_speaker else None
            if division.takes(clip.file, clip.start, clip.end, owner=owner):
                yield replace(clip, place=division.place)
        self.listed = division.sha256

    def _recordings(self) -> Iterator[Clip]:
        return clips(self.sources, self.root, self.channel)


def read_segments(path: str | Path) -> list[Segment]:
    """Reads the segments of a file, by its suffix.

    ``.csv`` has the columns ``file``, ``start``, ``end`` and maybe ``speaker``. ``.rttm`` names files and
    speakers. ``.txt`` holds labels of Audacity, ``.TextGrid`` intervals whose tiers are speakers: both belong
    to the recording that is called like them, or to the only one.

    Raises:
        ConfigError: names the line that cannot be read, or the column that is missing.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in _READERS)
        return [segment for file in files for segment in read_segments(file)]
    if path.suffix.lower() not in _READERS:
        raise ConfigError(unknown("format of segments", path.suffix or path.name, _READERS))
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigError(f"{path}: cannot be read as segments: {reason}") from error
    found = _READERS[path.suffix.lower()](path, text)
    if not found:
        raise ConfigError(f"{path}: holds no segment")
    return found


def _of_csv(path: Path, text: str) -> list[Segment]:
    lines = csv.DictReader(text.splitlines())
    missing = [name for name in ("file", "start", "end") if name not in (lines.fieldnames or ())]
    if missing:
        raise ConfigError(
            f"{path}: lacks the columns {', '.join(missing)}; needed are file, start and end in seconds, and "
            "speaker where speakers are known"
        )
    found = []
    for line in lines:
        if not line["file"]:
            raise ConfigError(f"{path}, line {lines.line_num}: names no file")
        times = _seconds(path, lines.line_num, line["start"], line["end"])
        found.append(Segment(line["file"], *times, line.get("speaker") or None))
    return found


def _of_rttm(path: Path, text: str) -> list[Segment]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if cells and cells[0] == "SPEAKER":
            if len(cells) < 8:
                raise ConfigError(
                    f"{path}, line {number}: got {len(cells)} fields; 'SPEAKER FILE CHANNEL START SECONDS "
                    "<NA> <NA> NAME' is needed"
                )
            start, seconds = _seconds(path, number, cells[3], cells[4])
            name = None if cells[7] == "<NA>" else cells[7]
            found.append(Segment(cells[1], start, round(start + seconds, 6), name))
    return found


def _of_audacity(path: Path, text: str) -> list[Segment]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("\\"):  # such lines are frequencies of the label before
            cells = line.split("\t")
            if len(cells) < 2:
                raise ConfigError(f"{path}, line {number}: got {line!r}; 'START<tab>END<tab>LABEL' is needed")
            found.append(Segment(path.stem, *_seconds(path, number, *cells[:2])))
    return found


_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<exists>|\[\d*\]|([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)')


def _of_textgrid(path: Path, text: str) -> list[Segment]:
    """Reads the intervals with text of all tiers, in Praat's long form or its short one."""
    tokens = [match for match in _TOKEN.finditer(text) if match[1] is not None or match[2]]
    values = iter([match[2] or match[1].replace('""', '"') for match in tokens])
    found = []
    try:
        head = [next(values) for _ in range(5)]
        if head[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError(head[:2])
        for _ in range(int(head[4])):
            kind, name, _, _, count = [next(values) for _ in range(5)]
            for _ in range(int(count)):
                if kind == "TextTier":
                    next(values), next(values)
                    continue
                start, end, label = float(next(values)), float(next(values)), next(values)
                if label.strip():
                    found.append(Segment(path.stem, start, end, name or None))
    except (StopIteration, ValueError) as error:
        raise ConfigError(f"{path}: is no TextGrid that can be read; save it again in Praat") from error
    return sorted(found, key=lambda segment: segment.start)


_READERS: dict[str, Callable[[Path, str], list[Segment]]] = {
    ".csv": _of_csv,
    ".rttm": _of_rttm,
    ".txt": _of_audacity,
    ".textgrid": _of_textgrid,
}
_NAMELESS = (".txt", ".textgrid")  # belong to the recording that is called like them, or to the only one


def _seconds(path: Path, line: int, first: str | None, second: str | None) -> tuple[float, float]:
    try:
        times = float(first or ""), float(second or "")
    except ValueError:
        times = math.nan, math.nan
    if not all(map(math.isfinite, times)):
        raise ConfigError(f"{path}, line {line}: got {first!r} and {second!r}; two numbers are needed")
    return times


def _named(everything: Iterator[Clip], segments: Segments, given: list[Segment]) -> Iterator[Clip]:
    """Yields the segments of recordings; a ConfigError names segments of other files."""
    shown = str(segments) if isinstance(segments, str | Path) else "the list"
    own: dict[str, list[Segment]] = {}
    for segment in given:
        own.setdefault(segment.file, []).append(segment)
    head = list(islice(everything, 2))
    nameless = isinstance(segments, str | Path) and Path(segments).suffix.lower() in _NAMELESS
    if len(head) == 1 and (nameless or list(own) == [""]):
        own = {head[0].file: given}
    takers: dict[str, str] = {}
    without: list[str] = []
    for clip in chain(head, everything):
        names = [name for name in dict.fromkeys(_names(clip)) if name in own]
        for name in names:
            if takers.setdefault(name, clip.key) != clip.key:
                raise ConfigError(f"{shown}: several recordings are called {name!r}; write their folders too")
        if not names:
            without.append(clip.file)
        elif clip.start is not None or clip.end is not None:
            raise ConfigError(f"{clip.file}: its row has a start or end already; leave the segments out")
        whole = _prepared(clip)
        yield from (_part(whole, *segment[1:]) for name in names for segment in own[name])
    if strangers := [name for name in own if name not in takers]:
        raise ConfigError(f"{shown}: it names files that are not among the recordings: {some(strangers, 3)}")
    if without:
        text = f"{shown} has no segment of {len(without)} recordings, which are left out: {some(without, 3)}"
        warnings.warn(text, stacklevel=2)


def _names(clip: Clip) -> Iterator[str]:
    """Yields how segments may name a recording: the whole path first, then its last parts."""
    yield clip.file
    for path in (clip.file, str(clip.sound) if isinstance(clip.sound, Path) else clip.file):
        parts = Path(path).parts
        for first in range(len(parts)):
            whole = Path(*parts[first:])
            yield whole.as_posix()
            yield whole.with_suffix("").as_posix()
    yield clip.utterance


def _prepared(clip: Clip) -> Clip:
    """Returns an array at 16 kHz, of which segments are parts; any other clip as it is."""
    if not isinstance(clip.sound, tuple):
        return clip
    samples = decoded(clip)
    if samples is None or isinstance(samples, str):
        return replace(clip, fault=samples or "")
    return replace(clip, sound=(samples, SAMPLE_RATE))


def _part(clip: Clip, start: float, end: float, speaker: str | None = None) -> Clip:
    """Returns a segment of a clip; its speaker is one of this recording, unless the clip's is called so."""
    part = replace(clip, start=start, end=end)
    if isinstance(clip.sound, tuple) and not clip.fault:
        try:
            part = replace(part, sound=(excerpt(clip.sound[0], clip.file, start, end), SAMPLE_RATE))
        except AudioError as error:
            part = replace(part, fault=str(error))
    if speaker is None or speaker == clip.voice:
        return part
    return replace(part, speaker=f"{clip.file}/{speaker}", voice=speaker)


def _spoken(clip: Clip) -> Iterator[Clip]:
    """Yields the stretches of a clip in which somebody speaks; the clip itself where there are none."""
    clip, found = _prepared(clip), []
    samples = decoded(clip)
    if not isinstance(samples, str):
        source: Any = clip.sound if samples is None else samples
        with suppress(AudioError):  # a row says why
            found = find_speech(source, clip.start, clip.end, clip.channel)
    begin = clip.start or 0.0
    yield from (_part(clip, begin + start, begin + end) for start, end in found) if found else [clip]
