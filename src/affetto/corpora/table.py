"""Every other corpus: other people's tables of recordings, and folders whose paths have the labels.

CSV, TSV, Parquet, JSONL     any column names; EmoBox's JSONL (``wav``, ``emo``) is one of these
folder with metadata.csv     as Hugging Face's AudioFolder has it (``file_name``), also metadata.jsonl
folder with db.yaml          audformat, tables as CSV or Parquet
folder                       columns from a regular expression over the path
"""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml

from affetto.audio import AUDIO, read_info
from affetto.corpora.labels import canonical, gender_of
from affetto.corpora.manifest import Manifest
from affetto.corpora.marks import read_marks
from affetto.corpora.scanning import About, find_audio
from affetto.corpora.tabular import is_missing, read_table, some
from affetto.errors import AudioError, ManifestError, MissingPackageError, unknown
from affetto.progress import progress
from affetto.runs import FORMATS

ABOUT = About(
    name="table",
    title="your own: a CSV, TSV, JSONL, audformat or Hugging Face table, or a folder with a pattern",
)
# Names that other people's tables use, by the column of the manifest; case does not matter.
ALIASES = {
    "key": "key utterance_id utt_id",
    "file": "file file_name filename filepath file_path path wav audio",
    "start": "start start_seconds",
    "end": "end end_seconds",
    "speaker": "speaker speaker_id spk actor",
    "emotion": "emotion emo label",
    "gender": "gender sex",
    "session": "session",
    "text": "text transcription transcript sentence",
    "language": "language lang",
    "split": "split",
    "corpus": "corpus dataset",
    "intensity_level": "intensity_level intensity",
}
_Row = dict[str, Any]
_FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, yaml.YAMLError)


def scan(
    root: Path,
    columns: Mapping[str, str] | None = None,
    pattern: str | None = None,
    labels: Mapping[str, str] | None = None,
    keep_labels: bool = False,
    audio_root: Path | None = None,
    name: str | None = None,
    tables: Sequence[str] = (),
) -> Manifest:
    """Makes a manifest from a table, or from the paths below a folder.

    Args:
        root: the table, or the folder.
        columns: manifest column to column of the table, where :data:`ALIASES` does not find it.
        pattern: a regular expression with named groups (``(?P<speaker>..)``) that is searched in each
            file's path below the root, with ``/``; the groups fill columns that the table leaves empty.
        labels: word to emotion, for words that affetto does not know.
        keep_labels: take every word for an emotion as it is.
        audio_root: what the file names are relative to; the table's own folder when None.
        name: of the corpus; the table's ``corpus`` column, or else the folder's name, when None.
        tables: which tables of an audformat database to read; all when empty.
    """
    groups = _compile(pattern)
    table, home, notes = _source(root, tables, pattern)
    base = Path(os.path.abspath(audio_root or home))
    table = _rename(table, columns or {})
    rows, errors, more = _usable(table, base, groups)
    notes += more
    if not rows:
        reason = " ".join(errors[0]) if errors else notes[-1] if notes else "the table is empty"
        raise ManifestError(f"{root}: not one usable recording; {reason}")
    for row in rows:
        if "emotion" in row:
            word = str(row["emotion"])
            row["emotion"] = (labels or {}).get(word, word) if keep_labels else canonical(word, labels)
        row["gender"] = gender_of(str(row.get("gender", ""))) or None
        row["corpus"] = name or str(row.get("corpus") or base.name)
    made = pd.DataFrame(rows)
    new_names = {old: new for new, old in (columns or {}).items()}
    marks = {new_names.get(old, old): own for old, own in read_marks(root).items()} if root.is_file() else {}
    kept = {column: own for column, own in marks.items() if column in made}
    return Manifest(made, dict.fromkeys(made["corpus"], base), tuple(errors), tuple(notes), kept)


def _usable(
    table: pd.DataFrame, base: Path, groups: re.Pattern[str] | None
) -> tuple[list[_Row], list[tuple[str, str]], list[str]]:
    """Returns the rows whose recordings can be read, the errors of the others, and notes."""
    rows: list[_Row] = []
    errors: list[tuple[str, str]] = []
    unmatched: list[str] = []
    check, find = cache(read_info), _Finder(base)
    for record in progress(table.to_dict("records"), "scan table"):
        row: _Row = {str(column): value for column, value in record.items() if not is_missing(value)}
        try:
            row["file"] = find(row.get("file"))
            check(base / row["file"])
        except (AudioError, ManifestError) as error:
            errors.append((str(record.get("file")), str(error)))
            continue
        match = groups.search(row["file"]) if groups is not None else None
        if groups is not None and match is None:
            unmatched.append(row["file"])
            if list(table.columns) == ["file"]:
                continue
        found = match.groupdict() if match is not None else {}
        rows.append({**{group: value for group, value in found.items() if value}, **row})
    notes = [f"{len(unmatched)} recordings do not match the pattern: {some(unmatched)}"] if unmatched else []
    return rows, errors, notes


def _source(root: Path, tables: Sequence[str], pattern: str | None) -> tuple[pd.DataFrame, Path, list[str]]:
    """Returns the records, the folder that their file names are relative to, and notes."""
    if root.is_file() and root.suffix not in (".yaml", ".yml"):
        if root.suffix.lower() not in FORMATS:
            message = unknown("table format", root.suffix, FORMATS)
            raise ManifestError(f"{message}; a spreadsheet program saves its sheet as CSV")
        return read_table(root), root.parent, []
    home = root if root.is_dir() else root.parent
    if (home / "db.yaml").is_file():
        return _audformat(home, tables, ALIASES["text"].split()), home, []
    for metadata in (home / "metadata.csv", home / "metadata.jsonl"):
        if metadata.is_file():
            return read_table(metadata), home, []
    files = [path.relative_to(home).as_posix() for path in find_audio(home)]
    note = f"{root} has no table and no pattern was given: speakers and emotions stay empty"
    return pd.DataFrame({"file": files}), home, [] if pattern else [note]


def _rename(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    names = [str(name) for name in table.columns]
    if absent := [wanted for wanted in columns.values() if wanted not in names]:
        raise ManifestError(unknown("column of the table", absent[0], names))
    lower = {name.lower(): name for name in reversed(names)}
    chosen = dict(columns)
    for column, aliases in ALIASES.items():
        found = next((lower[alias] for alias in aliases.split() if alias in lower), None)
        if column not in chosen and found is not None and found not in columns.values():
            chosen[column] = found
    if "file" not in chosen:
        raise ManifestError(
            f"the table lacks a column of file names; it has {', '.join(names)}; "
            "say which one with --column file=NAME"
        )
    taken = set(chosen.values()) | set(chosen)
    others = {name: table[name] for name in table.columns if str(name) not in taken}
    return pd.DataFrame({**{column: table[name] for column, name in chosen.items()}, **others})


class _Finder:
    """Finds the recordings that a table names, below a folder.

    A recording may have been converted to another format, and a table may name it without its folders or its
    suffix, as long as only one has that name.
    """

    def __init__(self, base: Path) -> None:
        self.base = base

    def __call__(self, file: Any) -> str:
        """Returns a file name relative to the folder."""
        if file is None:
            raise ManifestError("a row names no file")
        path = Path(os.path.normpath(self.base / str(file)))
        if not path.is_relative_to(self.base):
            message = f"lies outside {self.base}; name the folder that holds all files with --audio-root"
            raise ManifestError(message)
        if not path.is_file():
            others = [path.with_name(path.name + suffix) for suffix in sorted(AUDIO)]
            if path.suffix.lower() in AUDIO:
                others += [path.with_suffix(suffix) for suffix in sorted(AUDIO)]
            path = next(filter(Path.is_file, others), None) or self._called(path)
        return path.relative_to(self.base).as_posix()

    @cached_property
    def _names(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in find_audio(self.base):
            found[path.stem].append(path)
        return found

    def _called(self, path: Path) -> Path:
        stem = path.stem if path.suffix.lower() in AUDIO else path.name
        found = self._names.get(stem, []) if path.parent == self.base else []
        if len(found) > 1:
            names = some(each.relative_to(self.base).as_posix() for each in found)
            raise ManifestError(f"is the name of {len(found)} recordings: {names}; name their folders too")
        return found[0] if found else path


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ManifestError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    if not compiled.groupindex:
        raise ManifestError(f"the pattern {pattern!r} names no column; write groups like (?P<speaker>[^/]+)")
    return compiled


def _audformat(folder: Path, chosen: Sequence[str], texts: Collection[str]) -> pd.DataFrame:
    """Reads the tables of a database into one, a row a segment where a table has any, else a row a file.

    The facts of a scheme about a label (the gender of a speaker, the words of a sentence) become columns.
    ``chosen`` names tables, all when empty; labels of the columns ``texts`` stand for what is spoken.
    """
    try:
        import audformat
    except ImportError as error:
        raise MissingPackageError(
            f"{folder} needs the audformat package; install it with: pip install 'affetto[audformat]'"
        ) from error
    with TemporaryDirectory() as copy:
        # The package prefers pickles, which can run any code: it reads a copy without them.
        stored = [*folder.glob("db.*.csv"), *folder.glob("db.*.parquet")]
        try:
            for file in (folder / "db.yaml", *stored):
                shutil.copy(file, copy)
            database = audformat.Database.load(copy)
        except _FAULTS as error:
            raise ManifestError(f"{folder / 'db.yaml'} is no audformat header: {error}") from error
        names = list(database.tables)
        if absent := [name for name in chosen if name not in names]:
            raise ManifestError(unknown("audformat table", absent[0], names))
        for name in (*(chosen or names), *database.misc_tables):
            if f"db.{name}" not in {file.stem for file in stored}:
                raise ManifestError(
                    f"{folder} has no db.{name}.csv or .parquet; "
                    "save the database with storage_format csv or parquet"
                )
        return _joined(database, chosen or names, texts)


def _joined(database: Any, chosen: Sequence[str], texts: Collection[str]) -> pd.DataFrame:
    """Puts the columns of several tables side by side."""
    files, segments = (dict[tuple[str, ...], dict[str, Any]]() for _ in range(2))
    for name in chosen:
        segmented = database[name].type == "segmented"
        index = ("file", "start", "end") if segmented else ("file",)
        for record in _explained(database, name, texts).to_dict("records"):
            place = tuple(str(record[part]) for part in index)
            row = (segments if segmented else files).setdefault(place, {})
            for column, value in ((str(column), value) for column, value in record.items()):
                if not is_missing(value) and row.setdefault(column, value) != value:
                    raise ManifestError(
                        f"audformat tables contradict each other: {column} of {record['file']} is "
                        f"{row[column]} or {value}; choose tables with --table, of "
                        f"{', '.join(database.tables)}"
                    )
    found = [{**files.get((row["file"],), {}), **row} for row in segments.values()] or list(files.values())
    languages = {"language": database.languages[0]} if len(database.languages) == 1 else {}
    return pd.DataFrame([{**languages, **row} for row in found])


def _explained(database: Any, name: str, texts: Collection[str]) -> pd.DataFrame:
    """Returns a table with times in seconds, its split, and what schemes know of its labels."""
    table, frame = database[name], _frame(database, name).reset_index()
    for part in {"start", "end"}.intersection(frame.columns):
        frame[part] = pd.to_timedelta(frame[part]).dt.total_seconds()
    for column, about in table.columns.items():
        labels = about.scheme.labels if about.scheme_id else None
        if isinstance(labels, str):
            labels = _frame(database, labels).to_dict("index")
        if not isinstance(labels, dict):
            continue
        facts = [labels.get(value) for value in frame[column]]
        if all(isinstance(fact, dict) for fact in facts if fact is not None):
            more = sorted({key for fact in facts if fact for key in fact} - {column})
            columns = {key: [(fact or {}).get(key) for fact in facts] for key in more}
        else:
            columns = {"text" if column in texts else f"{column}.meaning": facts}
        for key in columns.keys() - frame.columns:
            frame[key] = columns[key]
    return frame.assign(split=table.split.type) if table.split_id else frame


def _frame(database: Any, name: str) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = database[name].df
    except _FAULTS as error:
        raise ManifestError(f"the audformat table {name} cannot be read: {error}") from error
    return frame.astype(object).where(frame.notna(), None)
