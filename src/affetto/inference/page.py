"""The page of predictions: one HTML file with player, timeline, table and downloads, and no other host."""

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import soundfile
from numpy.typing import NDArray

from affetto._version import __version__
from affetto.audio import SAMPLE_RATE, blocks, prepare
from affetto.errors import AudioError
from affetto.inference.annotations import FORMS, SINGLE, by_tier, render
from affetto.inference.label_files import SUFFIXES
from affetto.inference.sources import Clip, Sound
from affetto.progress import progress
from affetto.runs import atomic_write
from affetto.tables import Row

MOST_BYTES = 16 << 20
"""Of compressed sound in a page, about an hour; what does not fit is linked by its path from the page."""

_BLOCK_SECONDS, _PEAK_SAMPLES, _MOST_PEAKS, _MOST_FAULTS = 10.0, 320, 4000, 10
# Ten times as fast as Opus.
_OGG: dict[str, Any] = {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.8}
_WAV: dict[str, Any] = {"format": "WAV", "subtype": "PCM_16"}
_DARK, _LIGHT = "rgb(0 0 0 / .3)", "rgb(255 255 255 / .45)"
_PATTERNS = (
    "none",
    "repeating-linear-gradient(45deg, {0} 0 2px, transparent 2px 7px)",
    "repeating-linear-gradient(0deg, {0} 0 2px, transparent 2px 6px)",
    "radial-gradient({0} 25%, transparent 30%) 0 0 / 6px 6px",
    "repeating-linear-gradient(-45deg, {0} 0 2px, transparent 2px 7px)",
    "repeating-linear-gradient(90deg, {0} 0 2px, transparent 2px 6px)",
)


class _Heard(NamedTuple):
    """What a page has of a recording's sound."""

    seconds: float
    peaks: list[int]  # heights of the waveform, 0 to 100
    data: bytes | None  # compressed; None where it does not fit
    kind: str  # MIME type


def write_page(path: Path, rows: Sequence[Row], labels: Sequence[str], sounds: Mapping[str, Clip]) -> None:
    """Writes the page of rows, with the sound of each ``file`` among them; rows with errors are listed."""
    import jinja2

    rows = [row | {"file": _utf8(row["file"])} for row in rows]
    named = {_utf8(file): clip for file, clip in sounds.items()}
    shown = [
        row | {"row": place} for place, row in enumerate(row for row in rows if row["label"] is not None)
    ]
    by_file: dict[str, list[Row]] = {}
    for row in shown:
        by_file.setdefault(row["file"], []).append(row)
    files = list(by_file)
    title, names = _names(files)
    recordings, data, left = [], [], MOST_BYTES
    for place, (file, own) in enumerate(progress(by_file.items(), "page", len(files))):
        heard = _heard(named[file], left)
        left -= len(heard.data or b"")
        if heard.data:
            data.append((place, heard.kind, base64.b64encode(heard.data).decode()))
        lanes = [
            {"name": name, "spans": [(row["row"], row["start"], row["end"]) for row in tier]}
            for name, tier in by_tier(own).items()
        ]
        seconds = max([heard.seconds, *(row["end"] for row in own)])
        about = {"name": names[file], "seconds": seconds, "linked": _link(named[file].sound, path)}
        recordings.append({**about, "peaks": heard.peaks, "lanes": lanes})
    faults = [row["error"] for row in rows if row["error"]]
    if len(faults) > _MOST_FAULTS:
        faults[_MOST_FAULTS:] = [f"and {len(faults) - _MOST_FAULTS} more"]
    content = {
        "title": title,
        "about": _about(recordings, shown),
        "faults": faults,
        "labels": labels,
        "looks": _looks(len(labels)),
        "data": {"recordings": recordings, "rows": _spoken(shown, files, labels)},
        "downloads": _downloads(rows, Path(title).stem if len(files) == 1 else "emotions", labels),
        "sounds": data,
        **_table(shown, names, labels),
    }
    source = resources.files("affetto").joinpath("predicted.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(source).render(content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(html.encode("utf-8", "replace"))


def _heard(clip: Clip, most: int) -> _Heard:
    """Reads a recording once: its length, its waveform, and its sound in at most so many bytes."""
    how = _OGG if soundfile.check_format("OGG", "VORBIS") else _WAV
    buffer, samples, fits = io.BytesIO(), 0, True
    peaks: list[NDArray[np.float32]] = [np.zeros(1, np.float32)]
    source: Any = clip.sound
    if isinstance(source, tuple):
        source = prepare(source[0], int(source[1]), channel=clip.channel)
    try:
        with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, **how) as file:
            for _, piece in blocks(source, _BLOCK_SECONDS, channel=clip.channel):
                samples += len(piece)
                fits = fits and buffer.tell() <= most
                if fits:
                    file.write(piece)
                padded = np.pad(np.abs(piece), (0, -len(piece) % _PEAK_SAMPLES))
                peaks.append(padded.reshape(-1, _PEAK_SAMPLES).max(1))
    except AudioError:  # of which its row speaks; what came before it is shown
        fits = fits and samples > 0
    heights = np.concatenate(peaks)
    step = -(-len(heights) // _MOST_PEAKS)
    heights = np.maximum.reduceat(heights, np.arange(0, len(heights), step))
    scaled = np.rint(100 * heights / max(float(heights.max()), 1e-3)).astype(int).tolist()
    data = buffer.getvalue() if fits and buffer.tell() <= most else None
    return _Heard(samples / SAMPLE_RATE, scaled, data, "audio/ogg" if how is _OGG else "audio/wav")


def _names(files: list[str]) -> tuple[str, dict[str, str]]:
    """Returns the title of a page, and the names of its recordings without the folder that all share."""
    shared = ""
    with suppress(ValueError):  # absolute and relative paths have nothing in common
        shared = os.path.commonpath([os.path.dirname(file) for file in files])
    names = {file: os.path.relpath(file, shared) if shared else file for file in files}
    if len(files) == 1:
        return names[files[0]], names
    return f"{Path(shared).name + ': ' if shared else ''}{len(files)} recordings", names


def _link(sound: Sound, page: Path) -> str:
    """Returns the address of a recording on disk, from the page."""
    relative = os.path.relpath(sound, page.parent) if isinstance(sound, Path) else ""
    return quote(relative, errors="surrogateescape")


def _looks(count: int) -> list[dict[str, str]]:
    """Returns colour, pattern and ink of each class: no two differ by colour alone."""
    from affetto.plots.style import ink_on, look

    looks = []
    for number in range(count):
        colour, _ = look(number)
        ink = ink_on(colour)
        pattern = _PATTERNS[(number + number // 8) % len(_PATTERNS)]
        looks.append(
            {"colour": colour, "ink": ink, "pattern": pattern.format(_DARK if ink == "black" else _LIGHT)}
        )
    return looks


def _about(recordings: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> str:
    seconds = sum(recording["seconds"] for recording in recordings)
    length = f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    many = f"{len(recordings)} recording{'s' * (len(recordings) != 1)}"
    return (
        f"{len(rows)} answer{'s' * (len(rows) != 1)} on {many} of {length} in all, by affetto {__version__}."
    )


def _spoken(rows: Sequence[Row], files: list[str], labels: Sequence[str]) -> list[list[Any]]:
    """Returns what the script knows of rows, each with its name for a screen reader."""
    places, spoken = {file: place for place, file in enumerate(files)}, []
    for row in rows:
        sure = row["withheld"] or f"{100 * row['confidence']:.0f} percent"
        who = f"{row['speaker']}, " if row.get("speaker") else ""
        name = f"{who}{row['start']:.2f} to {row['end']:.2f} s, {row['label']}, {sure}"
        spoken.append([places[row["file"]], row["start"], row["end"], _look(row, labels), row["label"], name])
    return spoken


def _look(row: Row, labels: Sequence[str]) -> str:
    return f"c{labels.index(row['label'])}" if row["label"] in labels else "unknown"


def _table(rows: Sequence[Row], names: Mapping[str, str], labels: Sequence[str]) -> dict[str, Any]:
    """Returns heads and rows of the table; recordings and speakers have a column where there are several."""
    before = ["file"] * (len(names) > 1) + ["speaker"] * any(row.get("speaker") for row in rows)
    after = ["confidence", *(f"p_{label}" for label in labels)]
    heads = [*before, "emotion", "confidence", *labels, "withheld"]
    cells = [
        {
            "times": f"{row['start']:.2f}\N{EN DASH}{row['end']:.2f} s",
            "name": f"{names[row['file']]}, {row['start']:.2f} to {row['end']:.2f} s",
            "before": [names[row[name]] if name == "file" else row[name] or "" for name in before],
            "look": _look(row, labels),
            "label": row["label"],
            "after": ["" if row[name] is None else f"{row[name]:.2f}" for name in after]
            + [row["withheld"] or ""],
        }
        for row in rows
    ]
    return {"heads": ["time", *heads], "rows": cells}


def _downloads(rows: list[Row], stem: str, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields name and address of the table and of the label files that hold so many recordings."""
    several = len({row["file"] for row in rows}) > 1
    for suffix, form in {".csv": "csv", **SUFFIXES}.items():
        if form in FORMS and not (several and form in SINGLE):
            text = render(form, rows, labels).encode("utf-8", "replace")
            name = f"{stem}{suffix}".replace(".textgrid", ".TextGrid")
            yield name, f"data:text/plain;base64,{base64.b64encode(text).decode()}"


def _utf8(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")
