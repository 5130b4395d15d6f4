"""Files made of all rows: label files by their suffix, audformat, which is a folder, and the summary."""

import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.errors import AudioError, ConfigError, MissingPackageError, unknown
from affetto.inference.annotations import refuse_form, render
from affetto.inference.rows import UNKNOWN, RowFormat
from affetto.inference.writers import NUMBER, TEXT, WHOLE, rounded
from affetto.runs import write_text, writing
from affetto.tables import Row, write_lines, write_parquet

SUFFIXES = {
    **{".textgrid": "textgrid", ".txt": "audacity", ".srt": "srt", ".vtt": "vtt", ".rttm": "rttm"},
    **{".eaf": "eaf", ".json": "labelstudio", ".audformat": "audformat"},
}
"""Formats of label files, by suffix in small letters."""


def refuse_labels(suffix: str, files: Iterable[str], values: bool) -> None:
    """Refuses what a label file of a suffix cannot hold: several files, or dimensions (``values``)."""
    if form := SUFFIXES.get(suffix.lower()):
        refuse_form(form, files, values)
    if form == "audformat":
        _audformat()


def write_labels(path: Path, rows: list[Row], labels: Sequence[str]) -> None:
    """Writes a label file of the format that the suffix names; a warning says what could not be read.

    Raises:
        AudioError: where nothing could be read.
    """
    labelled = [row for row in rows if row["label"] is not None]
    errors = [row["error"] for row in rows if row["error"]]
    if errors and not labelled:
        raise AudioError(f"{path} was not written, since nothing could be read: {errors[0]}")
    for error in errors:
        warnings.warn(f"not in {path}: {error}", stacklevel=2)
    form = SUFFIXES[path.suffix.lower()]
    if form == "audformat":
        _write_audformat(path, labelled, labels)
    else:
        write_text(path, render(form, labelled, labels))


def _audformat() -> Any:
    try:
        import audformat
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            ".audformat needs the audformat package; install it with: pip install 'affetto[audformat]'"
        ) from error
    return audformat


def _write_audformat(path: Path, rows: list[Row], labels: Sequence[str]) -> None:
    """Writes a folder with a table of segments, and a scheme a column."""
    audformat = _audformat()
    apart = {(row["file"], row["start"], row["end"]): row for row in rows}
    if len(apart) < len(rows):  # of which audformat holds one
        twice = f"{len(rows) - len(apart)} rows with the recording and times of another are not in {path}"
        warnings.warn(twice, stacklevel=3)
    rows = list(apart.values())
    names = ["emotion", "confidence", *(f"p_{label}" for label in labels), "withheld"]
    names += ["speaker"] if any(row.get("speaker") for row in rows) else []
    database = audformat.Database(path.stem, "affetto predict", "other", description="Predicted emotions.")
    times = ([row[side] for row in rows] for side in ("start", "end"))
    index = audformat.segmented_index([row["file"] for row in rows], *times)
    table = database["emotion"] = audformat.Table(index)
    for name in names:
        kind = {"emotion": "str", "withheld": "str", "speaker": "str"}.get(name, "float")
        known = [*labels, UNKNOWN] if name == "emotion" else None
        database.schemes[name] = audformat.Scheme(kind, labels=known)
        table[name] = audformat.Column(scheme_id=name)
        table[name].set([row["label" if name == "emotion" else name] for row in rows])
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        shutil.rmtree(part, ignore_errors=True)
        database.save(part, storage_format="csv")
        shutil.rmtree(path, ignore_errors=True)  # left by a run that was killed right after the next line
        os.replace(part, path)


TABLES = (".csv", ".jsonl", ".parquet")
"""Suffixes of tables."""


def refuse_summary(path: Path) -> None:
    """Refuses another suffix than those of tables."""
    if path.suffix.lower() not in TABLES:
        raise ConfigError(unknown("format of a summary", path.suffix or path.name, TABLES))


def summary_rows(rows: Iterable[Row], form: RowFormat) -> list[Row]:
    """Returns a row for each recording and speaker, in the order in which they come.

    ``segments`` counts the rows with an answer, ``seconds`` is how long they last; where two overlap, the
    time counts for the later one. ``changes`` counts how often an emotion follows another one, whatever is
    ``unknown`` between them. Means are weighted by seconds.
    """
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        own = groups.setdefault((row["file"], row.get("speaker")), [])
        if not row["error"] and not row.get("enrolled"):
            own.append(row)
    return [
        {"file": file, "speaker": speaker, **_summary(sorted(own, key=lambda row: row["start"]), form)}
        for (file, speaker), own in groups.items()
    ]


def write_summary(path: Path, rows: Iterable[Row], form: RowFormat) -> None:
    """Writes :func:`summary_rows` as a table."""
    found = [{name: rounded(value) for name, value in row.items()} for row in summary_rows(rows, form)]
    if path.suffix.lower() == ".parquet":
        write_parquet(path, pyarrow.schema(_types(form)), found)
    else:
        write_lines(path, list(_types(form)), found)


def _types(form: RowFormat) -> dict[str, Any]:
    labels = [] if form.values else [*form.labels, UNKNOWN]
    types = {"file": TEXT, "speaker": TEXT, "segments": WHOLE, "seconds": NUMBER}
    types |= {f"seconds_{label}": NUMBER for label in labels}
    types |= {} if form.values else {"changes": WHOLE}
    return types | dict.fromkeys(form.predictions, NUMBER)


def _summary(rows: list[Row], form: RowFormat) -> Row:
    starts = [row["start"] for row in rows]
    ends = [min(row["end"], after) for row, after in zip(rows, [*starts[1:], np.inf], strict=False)]
    seconds = np.subtract(ends, starts).astype(np.float64)
    found: Row = dict.fromkeys(_types(form)) | {"segments": len(rows), "seconds": float(seconds.sum())}
    if not form.values:
        labels = [row["label"] for row in rows]
        for label in [*form.labels, UNKNOWN]:
            found[f"seconds_{label}"] = float(seconds[[each == label for each in labels]].sum())
        known = [label for label in labels if label != UNKNOWN]
        found["changes"] = sum(one != other for one, other in pairwise(known))
    answered = [row[form.predictions[0]] is not None for row in rows]
    if seconds[answered].sum() > 0:
        for name in form.predictions:
            found[name] = float(
                np.average([row[name] for row in rows if row[name] is not None], weights=seconds[answered])
            )
    return {name: value for name, value in found.items() if name not in ("file", "speaker")}
