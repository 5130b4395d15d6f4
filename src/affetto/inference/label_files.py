"""Label files on disk: their suffixes, what they refuse, and audformat, which is a folder."""

import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from affetto.errors import AudioError, MissingPackageError
from affetto.inference.annotations import refuse_form, render
from affetto.inference.rows import UNKNOWN
from affetto.runs import write_text, writing
from affetto.tables import Row

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
