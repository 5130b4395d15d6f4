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
from affetto.corpora.scanning import About, Corpus, collect, decoded, parts_of, text_of
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

    def parts(self, path: Path, pattern: re.Pattern[str]) -> dict[str, str]:
        """Returns the groups of a file's name; "" for those that it lacks."""
        values = parts_of(path, pattern, self.named)
        parts = {name: values[place - 1] or "" for name, place in pattern.groupindex.items()}
        if self.from_folder is not None:
            parts[self.from_folder] = parts[self.from_folder] or path.parent.name
        for name, spellings in self.same.items():
            parts[name] = spellings.get(parts[name], parts[name])
        return parts

    def value(self, column: str | Codes, parts: dict[str, str]) -> Any:
        """Returns the value of a column."""
        if isinstance(column, str):
            return column.format_map(parts)
        if any(parts[name] == value for name, value in column.unless.items()):
            return None
        return decoded(column.of, parts[column.of], column.codes)


def read_coded(file: Path) -> Corpus:
    """Reads the corpus that a YAML file describes: the facts of :class:`About`, and :class:`Naming`."""
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    facts = {name: values.pop(name) for name in About._fields if name in values}
    about = About(**{**facts, "name": file.stem})
    return Corpus(about, partial(_scan, about=about, naming=build(Naming, values)))


def _scan(root: Path, *, about: About, naming: Naming) -> Manifest:
    pattern = re.compile(naming.file)
    seen: set[str] = set()
    again: list[str] = []
    notes: list[str] = []

    def row(path: Path) -> dict[str, Any] | None:
        parts = naming.parts(path, pattern)
        if any(parts[name] != value for name, value in naming.only.items()):
            return None
        if naming.once and path.name in seen:
            again.append(path.name)
            return None
        seen.add(path.name)
        for name, (first, last) in naming.within.items():
            if not first <= parts[name] <= last:
                corpus = about.title.split()[0].rstrip(",")
                raise ManifestError(f"has the {name} {parts[name]}; {corpus} has {first} to {last}")
        columns = {name: naming.value(column, parts) for name, column in naming.columns.items()}
        if naming.transcripts is not None:
            columns["text"] = text_of(path.with_suffix(naming.transcripts))
        return columns

    folder = root / naming.folder if naming.folder is not None else None
    if folder is not None and not folder.is_dir():
        notes.append(f"{naming.folder} is absent: every folder was searched")
        folder = None
    manifest = collect(root, about, row, folder, notes)
    if again:
        notes = [f"passed over {len(again)} recordings that lie there twice under one name"]
    return replace(manifest, notes=tuple(notes))
