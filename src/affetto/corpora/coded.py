"""Corpora whose file names are codes: a YAML file in ``coded/`` says how the names are read."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from affetto.config import Settings, build
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, Corpus, collect, decoded, matched, parts_of, side_table, text_of
from affetto.errors import ManifestError


class Codes(Settings):
    """A column whose values are written in code.

    Attributes:
        of: the group of the pattern that holds the code.
        codes: what each code stands for.
        unless: values of other groups with which the column is empty.
    """

    of: str
    codes: dict[str, Any]
    unless: dict[str, str] = Field(default_factory=dict)


class Listing(Settings):
    """A table of the recordings, see :func:`~affetto.corpora.scanning.side_table`.

    Attributes:
        file: the table.
        key: its column with the names of the recordings.
        columns: of the manifest, and what they are called there.
        complete: whether a recording that it does not list is an error.
    """

    file: str
    key: str
    columns: dict[str, str]
    complete: bool = False


class Naming(Settings):
    """How the files of a corpus are named.

    Attributes:
        file: pattern with named groups that the stem of a file matches in full.
        named: the same in words, for errors.
        columns: codes, or a text in which ``{GROUP}`` stands for a group.
        folder: where the recordings lie; all folders are searched where it is absent.
        from_folder: the group that the folder of a file names, where its own name does not.
        same: other spellings of a group's values.
        only: values that groups must have; other files are no part of the corpus.
        within: first and last value of a group.
        once: whether of several files with one name the first is taken.
        transcripts: suffix of the file with the text of a recording.
        table: further columns.
    """

    file: str
    named: str
    columns: dict[str, str | Codes]
    folder: str | None = None
    from_folder: str | None = None
    same: dict[str, dict[str, str]] = Field(default_factory=dict)
    only: dict[str, str] = Field(default_factory=dict)
    within: dict[str, tuple[str, str]] = Field(default_factory=dict)
    once: bool = False
    transcripts: str | None = None
    table: Listing | None = None


def read_coded(file: Path) -> Corpus:
    """Reads a corpus from a YAML file: the facts of :class:`About`, but for the name, and :class:`Naming`."""
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    about = About(name=file.stem, **{name: values.pop(name) for name in About._fields if name in values})
    return Corpus(about, partial(_scan, about=about, naming=build(Naming, values)))


def _scan(root: Path, *, about: About, naming: Naming) -> Manifest:
    pattern = re.compile(naming.file)
    seen: set[str] = set()
    again: list[str] = []
    notes: list[str] = []
    table = naming.table and side_table(
        root / naming.table.file, naming.table.key, naming.table.columns, notes
    )

    def row(path: Path) -> dict[str, Any] | None:
        parts = _parts(path, pattern, naming)
        if any(parts[name] != value for name, value in naming.only.items()):
            return None
        if naming.once and path.stem in seen:
            again.append(path.stem)
            return None
        if naming.table and naming.table.complete and table is not None and path.stem not in table:
            raise ManifestError(f"has no row in {naming.table.file}")
        seen.add(path.stem)
        for name, (first, last) in naming.within.items():
            if not first <= parts[name] <= last:
                corpus = about.title.partition(",")[0]
                raise ManifestError(f"has the {name} {parts[name]}; {corpus} has {first} to {last}")
        columns = {name: _value(column, parts) for name, column in naming.columns.items()}
        if naming.transcripts is not None:
            columns["text"] = text_of(path.with_suffix(naming.transcripts))
        return {**columns, **(table or {}).get(path.stem, {})}

    folder = root / naming.folder if naming.folder is not None else None
    if folder is not None and not folder.is_dir():
        notes.append(f"{naming.folder} is absent: every folder was searched")
        folder = None
    manifest = collect(root, about, row, folder, notes)
    if again:
        note = f"passed over {len(again)} recordings that lie there twice under one name"
        manifest = replace(manifest, notes=(*manifest.notes, note))
    return matched(manifest, naming.table.file, table, seen) if naming.table and table else manifest


def _parts(path: Path, pattern: re.Pattern[str], naming: Naming) -> dict[str, str]:
    """Returns the groups of a file's name; "" for those that it lacks."""
    values = parts_of(path, pattern, naming.named)
    parts = {name: values[place - 1] or "" for name, place in pattern.groupindex.items()}
    if naming.from_folder is not None:
        parts[naming.from_folder] = parts[naming.from_folder] or path.parent.name
    for name, spellings in naming.same.items():
        parts[name] = spellings.get(parts[name], parts[name])
    return parts


def _value(column: str | Codes, parts: dict[str, str]) -> Any:
    if isinstance(column, str):
        return column.format_map(parts)
    if any(parts[name] == value for name, value in column.unless.items()):
        return None
    return decoded(column.of, parts[column.of], column.codes)
