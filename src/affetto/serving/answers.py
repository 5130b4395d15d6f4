"""From a form to clips and back: what is asked for, and the rows as a client gets them."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from affetto.audio import AudioInfo, read_info
from affetto.errors import AffettoError, ConfigError
from affetto.inference import Enrolment, Recogniser
from affetto.inference.rows import RowFormat
from affetto.inference.sources import LONG_SECONDS, Clip, Windows
from affetto.serving.limits import Limits, Refusal, invalid
from affetto.serving.uploads import Form, Upload
from affetto.tables import Row

FORMATS = {
    "json": "application/json",
    "verbose_json": "application/json",
    "csv": "text/csv",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "textgrid": "text/plain",
}
_MOST_SAMPLES = 1 << 27  # that are decoded at once: half a gigabyte
_UNKNOWN_FORMAT = ("not audio that", "holds no sound")


def one_file(form: Form) -> Upload:
    """Returns the only file of a form; refuses none, several and an empty one."""
    if len(form.files) != 1:
        raise invalid(f"got {len(form.files)} files in the field 'file'; send one")
    upload = form.files[0]
    if not upload.size:
        raise Refusal(422, "empty_file", f"{upload.name}: the file is empty (0 bytes)")
    return upload


def probe_upload(upload: Upload, limits: Limits) -> AudioInfo:
    """Reads the header of a recording; refuses what is not audio, and what is too long."""
    try:
        info = read_info(upload.path)
    except AffettoError as error:
        raise unreadable(str(error), upload) from error
    if info.duration_seconds > limits.seconds:
        most = f"{limits.seconds / 60:.0f} minutes"
        raise Refusal(413, "too_long", f"{upload.name}: longer than {most}; send it in parts")
    if info.channels > limits.channels or _samples(info, LONG_SECONDS) > _MOST_SAMPLES:
        raise Refusal(413, "too_large", f"{upload.name}: too many channels; send at most {limits.channels}")
    return info


def unreadable(message: str, upload: Upload) -> Refusal:
    """Returns the refusal of a recording, with the words of its error but not the path on this machine."""
    text = message.replace(str(upload.path), upload.name).replace(", or drop its row", "")
    if "it is longer than" in text:
        return Refusal(413, "too_long", text)
    if any(words in text for words in _UNKNOWN_FORMAT):
        return Refusal(415, "unsupported_media_type", text)
    return Refusal(422, "unreadable_audio", text)


def windows_of(fields: Mapping[str, Any], limits: Limits) -> Windows:
    """Reads ``window`` and ``hop``, seconds; refuses what would make a short upload much work."""
    given: dict[str, float | None] = {}
    for name in ("window", "hop"):
        try:
            given[name] = None if fields.get(name) in (None, "") else float(fields[name])
        except (TypeError, ValueError) as error:
            raise invalid(f"got {name} {str(fields[name])[:50]!r}; a number of seconds is needed") from error
    least, most = limits.window_seconds
    if any(value is not None and not least <= value <= most for value in given.values()):
        raise invalid(f"window and hop must be from {least:g} to {most:g} s")
    try:
        windows = Windows(given["window"], given["hop"])
    except ConfigError as error:
        raise invalid(str(error)) from error
    if windows.length and windows.length > limits.overlap * windows.step:
        raise invalid(f"the hop must be at least a window divided by {limits.overlap}")
    return windows


def answering(recogniser: Recogniser, classes: Any) -> Recogniser:
    """Returns what answers with ``classes`` alone: names with commas or spaces between them, or a list."""
    if not classes:
        return recogniser
    names = classes.replace(",", " ").split() if isinstance(classes, str) else classes
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid("classes must be names, or a list of them")
    try:
        return recogniser.answering([name[:50] for name in names])
    except ConfigError as error:
        raise invalid(str(error)) from error


def speaker_of(name: Any, speakers: Mapping[str, Enrolment]) -> Enrolment | None:
    """Returns the enrolment of a speaker; None where no speaker is named."""
    if not name:
        return None
    if name not in speakers:
        raise invalid(f"no speaker is enrolled as {str(name)[:100]!r}; enrol one at /v1/speakers/NAME")
    return speakers[str(name)]


def clips_of(upload: Upload, text: str | None, info: AudioInfo, limits: Limits) -> list[Clip]:
    """Returns the recording as one clip, or the segments that are asked for, each with its speaker's name."""
    if not text:
        return [Clip(upload.name, upload.path)]
    found = []
    for number, row in enumerate(_table(text), 1):
        if number > limits.segments:
            raise invalid(f"got more than {limits.segments} segments; send fewer")
        try:
            start, end = float(row["start"]), float(row["end"])
        except (KeyError, TypeError, ValueError) as error:
            raise invalid(f"segment {number} needs start and end in seconds") from error
        inside = 0 <= start < end <= info.duration_seconds + 0.1 and start < info.duration_seconds
        if not inside or not math.isfinite(end):
            raise invalid(
                f"segment {number} is from {start:g} to {end:g} s of a recording of "
                f"{info.duration_seconds:.3f} s; it must be inside, and end after it begins"
            )
        if _samples(info, end - start) > _MOST_SAMPLES:
            raise invalid(f"segment {number} is too long to be decoded at once; divide it")
        voice = None if row.get("speaker") in (None, "") else str(row["speaker"])
        found.append(Clip(upload.name, upload.path, start, end, voice=voice))
    if not found:
        raise invalid("got no segment; leave 'segments' out for the whole recording")
    return found


def entry(row: Row, form: RowFormat, scores: bool = True) -> dict[str, Any]:
    """Returns a row as JSON: the label and how sure it is, and the number of each class or dimension."""
    names = ("start", "end", "speaker", "label", "confidence", "withheld")
    found = {name: row[name] for name in names if name in row}
    if scores or form.values:
        found["scores"] = dict(zip(form.labels, (row[name] for name in form.predictions), strict=True))
    return found


def _samples(info: AudioInfo, most_seconds: float) -> float:
    return info.rate * info.channels * min(info.duration_seconds, most_seconds)


def _table(text: str) -> Sequence[Mapping[str, Any]]:
    """Reads segments: a list in JSON, or CSV with a header."""
    if text.lstrip().startswith(("[", "{")):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise invalid("the segments are no valid JSON") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise invalid('the segments must be a list, [{"start": 0, "end": 2.5, "speaker": "Ann"}]')
        return rows
    try:
        return list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise invalid("the segments are no valid CSV with the columns start,end,speaker") from error
