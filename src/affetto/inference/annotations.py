"""Rows of predictions as the files of other programs: Praat, Audacity, ELAN, Label Studio, subtitles."""

import csv
import io
import json
import mimetypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, pairwise
from unicodedata import category
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from affetto.errors import ConfigError, unknown
from affetto.inference.writers import rounded
from affetto.tables import Row

Render = Callable[[list[Row], Sequence[str]], str]
"""Writes labelled rows, of a recogniser of some labels, as text."""


def render(form: str, rows: Iterable[Row], labels: Sequence[str]) -> str:
    """Returns rows as the content of a file; ``form`` is a name of ``FORMS``.

    Rows are those of :meth:`~affetto.inference.recogniser.Recogniser.files`, with ``speaker`` where known.
    Rows without a label, of what could not be read, are only in ``csv``, ``json`` and ``verbose_json``.

    Raises:
        ConfigError: for another format, rows of dimensions, or several recordings in a format for one.
    """
    if form not in FORMS:
        raise ConfigError(unknown("format", form, FORMS))
    kept = list(rows)
    if form in COMPLETE:
        return FORMS[form](kept, labels)
    refuse_form(form, (row["file"] for row in kept), bool(kept) and "label" not in kept[0])
    return FORMS[form]([row for row in kept if row["label"] is not None], labels)


def refuse_form(form: str, files: Iterable[str], values: bool) -> None:
    """Refuses what a format cannot hold: several files, or dimensions (``values``)."""
    if values:
        tables = ".csv, .jsonl and .parquet hold them"
        raise ConfigError(f"{form} holds classes, and this recogniser predicts dimensions; {tables}")
    if form in SINGLE and len(set(files)) > 1:
        several = ".csv, .jsonl, .parquet, .rttm, .json and .audformat hold several"
        raise ConfigError(f"a file of {form} holds one recording, and got several; {several}")


def _csv(rows: list[Row], labels: Sequence[str]) -> str:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: rounded(value) for name, value in row.items()} for row in rows)
    return lines.getvalue()


def _json(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes the answers alone."""
    names = ("file", "start", "end", "speaker", "label", "confidence", *labels, "error")
    return _as_json({"segments": [{name: row[name] for name in names if name in row} for row in rows]})


def _verbose_json(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes everything that is known."""
    return _as_json({"labels": list(labels), "segments": rows})


def _label_studio(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes a task a recording, with pre-annotations for ``<Labels name="emotion" toName="audio">``."""
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        value = {"start": row["start"], "end": row["end"], "channel": 0, "labels": [row["label"]]}
        result = {"from_name": "emotion", "to_name": "audio", "type": "labels", "value": value}
        result |= {"score": row["confidence"]} if row["confidence"] is not None else {}
        result |= {"meta": {"text": [row["speaker"]]}} if row.get("speaker") else {}
        own = tasks.setdefault(row["file"], [])
        own.append({"id": f"{len(tasks)}-{len(own) + 1}", **result})
    predictions = {file: [{"model_version": "affetto", "result": own}] for file, own in tasks.items()}
    return _as_json([{"data": {"audio": file}, "predictions": own} for file, own in predictions.items()])


def _audacity(rows: list[Row], labels: Sequence[str]) -> str:
    return "".join(f"{row['start']:.6f}\t{row['end']:.6f}\t{_named(row)}\n" for row in rows)


def _rttm(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes the emotion as the subtype, and as the name the speaker, or the emotion again without one."""
    lines = []
    for row in rows:
        file, label, name = (
            "_".join(_line(part).split()) for part in (row["file"], row["label"], row.get("speaker") or "")
        )
        sure = "<NA>" if row["confidence"] is None else f"{row['confidence']:.6f}"
        times = f"{row['start']:.6f} {row['end'] - row['start']:.6f}"
        lines.append(f"SPEAKER {file} 1 {times} <NA> {label} {name or label} {sure} <NA>\n")
    return "".join(lines)


def _srt(rows: list[Row], labels: Sequence[str]) -> str:
    return "".join(f"{number}\n{cue}\n" for number, cue in enumerate(_cues(rows, ","), 1))


def _vtt(rows: list[Row], labels: Sequence[str]) -> str:
    return "".join(f"{cue}\n" for cue in ["WEBVTT\n", *_cues(rows, ".", escape)])


def _textgrid(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes the long format of Praat; what is between two rows is an interval without text."""
    tiers, last = by_tier(rows), max((row["end"] for row in rows), default=1.0)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {last:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for place, (name, tier) in enumerate(tiers.items(), 1):
        intervals: list[tuple[float, float, str]] = []
        reached = 0.0
        for start, end, text in [
            *((row["start"], row["end"], row["label"]) for row in tier),
            (last, last, ""),
        ]:
            if round(start - reached, 6) > 0:
                intervals.append((reached, start, ""))
            if end > start:
                intervals.append((start, end, text))
            reached = end
        lines += [f"item [{place}]:", 'class = "IntervalTier"', f"name = {_quoted(name)}", "xmin = 0"]
        lines += [f"xmax = {last:.6f}", f"intervals: size = {len(intervals)}"]
        for number, (start, end, text) in enumerate(intervals, 1):
            lines += [f"intervals [{number}]:", f"xmin = {start:.6f}", f"xmax = {end:.6f}"]
            lines += [f"text = {_quoted(text)}"]
    return "\n".join(lines) + "\n"


def _eaf(rows: list[Row], labels: Sequence[str]) -> str:
    """Writes ELAN's XML, in which times are milliseconds."""
    slots: list[str] = []
    tiers: list[str] = []
    for name, tier in by_tier(rows).items():
        who = f" PARTICIPANT={quoteattr(_line(tier[0]['speaker']))}" if tier[0].get("speaker") else ""
        tiers.append(f'<TIER LINGUISTIC_TYPE_REF="emotion" TIER_ID={quoteattr(name)}{who}>')
        for row in tier:
            first = len(slots)
            for place, time in enumerate((row["start"], row["end"]), first):
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="ts{place}" TIME_VALUE="{round(1000 * time)}"/>')
            spans = f'TIME_SLOT_REF1="ts{first}" TIME_SLOT_REF2="ts{first + 1}"'
            tiers.append(f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{first}" {spans}>')
            tiers.append(f"<ANNOTATION_VALUE>{escape(_line(row['label']))}</ANNOTATION_VALUE>")
            tiers.append("</ALIGNABLE_ANNOTATION></ANNOTATION>")
        tiers.append("</TIER>")
    file = quote(rows[0]["file"] if rows else "", errors="replace")
    kind = mimetypes.guess_type(file)[0] or "audio/x-wav"
    return _EAF.format("\n".join(slots), "\n".join(tiers), file=file, kind=kind)


_EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="affetto" DATE="2000-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="{file}" MIME_TYPE="{kind}"/>
</HEADER>
<TIME_ORDER>
{}
</TIME_ORDER>
{}
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="emotion" TIME_ALIGNABLE="true" GRAPHIC_REFERENCES="false"/>
</ANNOTATION_DOCUMENT>
"""

FORMS: dict[str, Render] = {
    **{"json": _json, "verbose_json": _verbose_json, "csv": _csv, "vtt": _vtt, "srt": _srt},
    **{
        "textgrid": _textgrid,
        "audacity": _audacity,
        "rttm": _rttm,
        "eaf": _eaf,
        "labelstudio": _label_studio,
    },
}
COMPLETE = ("json", "verbose_json", "csv")
"""Formats that hold every row, and dimensions too."""

SINGLE = ("vtt", "srt", "textgrid", "audacity", "eaf")
"""Formats that do not name the recording, and hold one."""


def by_tier(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Returns rows by speaker; in a tier each ends before the next one starts.

    Where a row overlaps the next, as windows do, the boundary is midway. One within another gets a tier more.
    """
    tiers: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["start"], row["end"])):
        name = _line(row.get("speaker") or "") or "emotion"
        for number in count(1):
            tier = tiers.setdefault(name if number == 1 else f"{name} {number}", [])
            if not tier or (tier[-1]["start"] < row["start"] and tier[-1]["end"] < row["end"]):
                tier.append(row)
                break
    for name, tier in tiers.items():
        middles = [(one["end"] + two["start"]) / 2 for one, two in pairwise(tier)]
        sides = zip(tier, [0.0, *middles], [*middles, tier[-1]["end"]], strict=True)
        tiers[name] = [
            {**row, "start": max(row["start"], left), "end": min(row["end"], right)}
            for row, left, right in sides
        ]
    return tiers


def _cues(rows: Iterable[Row], mark: str, escape: Callable[[str], str] = str) -> Iterator[str]:
    """Yields times and text of subtitles: speaker, label and confidence."""
    cut = (row for tier in by_tier(rows).values() for row in tier)
    for row in sorted(cut, key=lambda row: row["start"]):
        sure = "" if row["confidence"] is None else f" {row['confidence']:.2f}"
        times = f"{_clock(row['start'], mark)} --> {_clock(row['end'], mark)}"
        yield f"{times}\n{escape(_named(row))}{sure}\n"


def _named(row: Row) -> str:
    """Returns the label, after the speaker where one is known, on one line."""
    return _line(f"{row['speaker']}: {row['label']}" if row.get("speaker") else row["label"])


def _line(text: str) -> str:
    """Puts text on one line, without signs that no XML may hold."""
    return " ".join("".join(" " if category(sign) in ("Cc", "Cn", "Cs") else sign for sign in text).split())


def _quoted(text: str) -> str:
    return '"' + _line(text).replace('"', '""') + '"'


def _clock(seconds: float, mark: str) -> str:
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{thousandths:03}"


def _as_json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=float) + "\n"
