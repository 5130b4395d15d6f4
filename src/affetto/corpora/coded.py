"""Corpora whose file names are codes: a YAML file in ``coded/`` describes the names."""

import re
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from affetto.config import Settings, build
from affetto.corpora.labels import gender_of
from affetto.corpora.manifest import Manifest
from affetto.corpora.reading import read_listing
from affetto.corpora.scanning import About, Corpus, collect, matched, of_code, text_of
from affetto.errors import ManifestError


class Codes(Settings):
    """A column whose values are written in code."""

    of: str  # the group of the pattern that holds the code
    codes: dict[str, Any]
    unless: dict[str, str] = Field(default_factory=dict)  # values of groups with which the column is empty

    def format_map(self, parts: dict[str, str]) -> Any:
        """Returns the value for the groups of a name, as a text with ``{GROUP}`` does."""
        if any(parts[group] == value for group, value in self.unless.items()):
            return None
        return of_code(self.of, parts[self.of], self.codes)


class SideTable(Settings):
    """A table that comes with a corpus and fills columns: CSV, TSV or JSON."""

    file: str
    key: str  # the column with the names, whose suffixes do not count
    columns: dict[str, str]  # of the manifest, and what they are called in the table
    of: str = ""  # the group of the pattern that the names belong to; "" for names of recordings
    rows: dict[str, str] = Field(default_factory=dict)  # how the cells of a row must begin
    complete: bool = False  # whether a recording that the table does not name is refused
    matched: bool = False  # whether names that table and recordings do not share are reported

    def read(self, root: Path, naming: "Naming", notes: list[str]) -> dict[str, dict[str, str | None]] | None:
        """Returns columns by name; None, and a note, where the table is absent."""
        if not (root / self.file).is_file():
            *first, last = self.columns
            empty = f"{', '.join(first)} and {last} stay" if first else f"{last} stays"
            votes = last.startswith("votes_")
            notes.append(f"{self.file} is absent: " + ("there are no votes" if votes else f"{empty} empty"))
            return None
        table = read_listing(root / self.file, (self.key, *self.columns.values()))
        for column, start in self.rows.items():
            table = table[table[column].str.startswith(start)]
        table = table.apply(lambda cells: cells.str.strip().str.strip("\ufeff").str.strip())
        tidy = {"gender": gender_of, "split": str.lower}
        found = {}
        for row in table.to_dict("records"):
            stem = Path(row[self.key]).stem
            if name := stem if self.of else naming.key(stem):
                cells = ((ours, tidy.get(ours, str)(row[cell])) for ours, cell in self.columns.items())
                found[name] = {ours: value or None for ours, value in cells}
        return found


class Texts(Settings):
    """Transcripts: files with a key and a text a line, between tabs."""

    files: dict[str, str]  # patterns of names, and the encoding of files that are neither UTF-16 nor UTF-8
    absent: str  # the note where there is none

    def read(self, root: Path, notes: list[str]) -> dict[str, str]:
        """Returns the texts by key."""
        found = {path: encoding for glob, encoding in self.files.items() for path in root.rglob(glob)}
        cells = (line.split("\t") for each in found.items() for line in _decoded_text(*each).splitlines())
        texts = {line[0].strip(): line[1].strip() for line in cells if len(line) > 1}
        if not texts:
            notes.append(f"{self.absent}: text stays empty")
        return texts


def _decoded_text(path: Path, encoding: str) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode(encoding, "replace")


class Naming(Settings):
    """How the files of a corpus are named, and which tables and texts come with them."""

    file: str  # pattern with named groups for the stem of a file, or with "/" for the end of its path
    misnamed: str  # the error for another name
    columns: dict[str, str | Codes]  # codes, or a text in which {GROUP} stands for a group
    folder: str | None = None  # of the recordings; all folders are searched where it is absent
    note_folder: bool = False  # whether a note reports that
    from_folder: str | None = None  # the group that the folder names, where the file does not
    same: dict[str, dict[str, str]] = Field(default_factory=dict)  # other spellings of a group's values
    only: dict[str, str] = Field(default_factory=dict)  # values that files of the corpus have
    within: dict[str, tuple[str, str]] = Field(default_factory=dict)  # first and last value of a group
    once: bool = False  # whether of several files with one name the first is taken
    transcripts: str | None = None  # suffix of the file with the text of a recording
    texts: Texts | None = None
    tables: tuple[SideTable, ...] = ()

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern for the whole path of a file, without its suffix."""
        return re.compile(rf"(?:.*?/)??{self.file}" if "/" in self.file else rf"(?:.*/)?{self.file}")

    def parts(self, name: str) -> dict[str, str]:
        """Returns the groups of a file's path without its suffix; "" for those that it lacks."""
        found = self.pattern.fullmatch(name)
        if found is None:
            raise ManifestError(self.misnamed)
        parts = found.groupdict("")
        if self.from_folder is not None:
            parts[self.from_folder] = parts[self.from_folder] or Path(name).parent.name
        for group, spellings in self.same.items():
            parts[group] = spellings.get(parts[group], parts[group])
        return parts

    def key(self, stem: str) -> str:
        """Returns the key of the recording that a table names."""
        named = "key" in self.columns and self.pattern.fullmatch(stem)
        return str(self.columns["key"].format_map(self.parts(stem))) if named else stem


def read_coded(file: Path) -> Corpus:
    """Reads a corpus from a YAML file: the facts of :class:`About`, but for the name, and :class:`Naming`."""
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    about = About(name=file.stem, **{name: values.pop(name) for name in About._fields if name in values})
    return Corpus(about, partial(_scan, about=about, naming=build(Naming, values)))


def _scan(root: Path, *, about: About, naming: Naming) -> Manifest:
    notes: list[str] = []
    tables = [(table, table.read(root, naming, notes)) for table in naming.tables]
    texts = naming.texts.read(root, notes) if naming.texts is not None else {}
    seen, again = set[str](), list[str]()

    keys = naming.columns.get("key")
    sources = [(name, source) for name, source in naming.columns.items() if name != "key"]

    def row(path: Path) -> dict[str, Any] | None:  # quick, since some corpora have a million files
        name = path.as_posix().rpartition(".")[0]
        parts = naming.parts(name)
        for group, value in naming.only.items():
            if parts[group] != value:
                return None
        stem = name[name.rfind("/") + 1 :]
        if naming.once and stem in seen:
            again.append(stem)
            return None
        key = stem if keys is None else keys.format_map(parts)
        for table, known in tables:
            if table.complete and known is not None and key not in known:
                raise ManifestError(f"has no row in {table.file}")
        seen.add(stem)
        for group, (first, last) in naming.within.items():
            if not first <= parts[group] <= last:
                corpus = re.split(r"\W", about.title)[0]
                raise ManifestError(f"has the {group} {parts[group]}; {corpus} has {first} to {last}")
        columns = {column: source.format_map(parts) for column, source in sources}
        columns["key"] = key
        if naming.texts is not None:
            columns["text"] = texts.get(key)
        if naming.transcripts is not None:
            columns["text"] = text_of(path.with_suffix(naming.transcripts))
        for table, known in tables:
            if known:
                columns |= known.get(parts[table.of] if table.of else key, {})
        return columns

    folder = root / (naming.folder or "")
    if not folder.is_dir():
        folder = root
        if naming.note_folder:
            notes.append(f"{naming.folder} is absent: every folder was searched")
    manifest = collect(root, about, row, folder, notes)
    if again:
        note = f"passed over {len(again)} recordings that lie there twice under one name"
        manifest = replace(manifest, notes=(*manifest.notes, note))
    for table, known in tables:
        if table.matched and known:
            manifest = matched(manifest, table.file, known, seen)
    return manifest
