"""Every other corpus: other people's tables of recordings, and folders whose paths have the labels.

CSV, TSV, Parquet, JSONL     any column names; EmoBox's JSONL (``wav``, ``emo``) is one of these
folder with metadata.csv     as Hugging Face's AudioFolder has it (``file_name``), also metadata.jsonl
folder with db.yaml          audformat, tables as CSV or Parquet
tar files                    one, or a folder of them: Lhotse Shar, WebDataset
folder                       columns from a regular expression over the path
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affetto.audio import AudioInfo, part_of, read_info
from affetto.corpora.checks import HEADERS
from affetto.corpora.labels import canonical, gender_of, read_marks
from affetto.corpora.manifest import Manifest
from affetto.corpora.reading import read_table
from affetto.corpora.scanning import About, Gathered, current_division, find_audio, odd_headers, records
from affetto.corpora.shards import read_audformat, read_shards, samples_of, tars_of
from affetto.corpora.tabular import ONE_ROW, SAMPLES, TIMES, below, timed, to_seconds
from affetto.errors import AudioError, ManifestError, some, unknown
from affetto.media import AUDIO
from affetto.members import member_of
from affetto.opening import Notes
from affetto.progress import progress
from affetto.runs import FORMATS

ABOUT = About(
    name="table", title="your own: CSV, TSV, JSONL, audformat or Hugging Face tables, tar files, or folders"
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
    table = timed(_rename(table, columns or {}))

    def named(row: _Row) -> _Row:
        if "emotion" in row:
            word = str(row["emotion"])
            row["emotion"] = (labels or {}).get(word, word) if keep_labels else canonical(word, labels)
        row["gender"] = gender_of(str(row.get("gender", ""))) or None
        row["corpus"] = name or str(row.get("corpus") or base.name)
        return row

    rows, errors, more = _usable(table, base, groups, named)
    notes += more
    if not rows.count and not current_division().others:
        reason = " ".join(errors[0]) if errors else notes[-1] if notes else "the table is empty"
        raise ManifestError(f"{root}: not one usable recording; {reason}")
    del table
    made = rows.table()
    new_names = {old: new for new, old in (columns or {}).items()}
    marks = {new_names.get(old, old): own for old, own in read_marks(root).items()} if root.is_file() else {}
    kept = {column: own for column, own in marks.items() if column in made}
    return Manifest(made, dict.fromkeys(made["corpus"], base), tuple(errors), tuple(notes), kept)


def _usable(
    table: pd.DataFrame, base: Path, groups: re.Pattern[str] | None, named: Callable[[_Row], _Row]
) -> tuple[Gathered, list[tuple[str, str]], list[str]]:
    """Returns the rows whose recordings can be read, the errors of the others, and notes."""
    division = current_division()
    rows, errors = Gathered(division), list[tuple[str, str]]()
    unmatched, cut = list[str](), list[str]()
    find, first, odd = _Finder(base), dict[str, int](), dict[str, None]()
    times = [to_seconds(table.get(name, pd.Series(np.nan, table.index))) for name in TIMES]

    @lru_cache(HEADERS)
    def check(file: str) -> AudioInfo:
        found: Notes = {}
        info = read_info(base / file, found)
        odd.update(dict.fromkeys([file] if found else ()))
        return info

    every = zip(progress(records(table), "scan table", len(table)), *times, strict=True)
    for place, (row, start, end) in enumerate(every):
        given = row.get("file", "(no name)")
        try:
            row["file"] = find(row.get("file"))
        except (AudioError, ManifestError) as error:
            if division.takes(given):
                errors.append((str(given), str(error)))
            continue
        key = str(row.get("key") or "\0".join([os.path.splitext(row["file"])[0], str(start), str(end)]))
        if not division.takes(key):  # rows with one key are of one shard
            continue
        try:
            row = _in_full(row, base, check(row["file"]), start, end)
        except (AudioError, ManifestError) as error:
            shown = str(given).encode("utf-8", "replace").decode()
            errors.append((shown, str(error)))
            continue
        cut += [row["file"]] if end > check(row["file"]).duration_seconds else []
        if (earlier := first.setdefault(key, place)) != place:
            (other,) = records(table.iloc[[earlier]])
            other["file"] = find(other["file"])
            other = _in_full(other, base, check(other["file"]), *(each.iloc[earlier] for each in times))
            errors.append((row["file"], _again(other, row)))
            continue
        match = groups.search(row["file"]) if groups is not None else None
        if groups is not None and match is None:
            unmatched.append(row["file"])
            if list(table.columns) == ["file"]:
                continue
        found = match.groupdict() if match is not None else {}
        rows.add(named({**{group: value for group, value in found.items() if value}, **row}))
    notes = [f"{len(unmatched)} recordings do not match the pattern: {some(unmatched)}"] if unmatched else []
    if cut:
        notes.append(
            f"{len(cut)} rows end after their recording, by less than 0.25 s, and are cut: {some(cut)}"
        )
    return rows, errors, [*notes, *odd_headers(odd)]


def _in_full(row: _Row, base: Path, info: AudioInfo, start: float, end: float) -> _Row:
    """Returns a row whose part is inside its recording, with what is known from the header."""
    part = (None if second != second else second for second in (start, end))
    begin, stop = part_of(info.frames, info.rate, f"{base / row['file']}", *part)
    if member_of(row["file"]):
        row[SAMPLES] = samples_of(stop - begin, info.rate)
    if end > info.duration_seconds:
        row["end"] = info.duration_seconds
    return row


def _again(earlier: _Row, row: _Row) -> str:
    """Returns why a row is left out whose key came before; one that says something else is refused."""
    differ = sorted(name for name in {*earlier, *row} if str(earlier.get(name)) != str(row.get(name)))
    if not differ:
        return "is there twice with all its cells; one row is kept"
    if "file" in differ and "key" not in row:
        return f"has the name of {earlier['file']}, which is kept"
    raise ManifestError(
        f"{row.get('key', row['file'])} has several rows, which differ in {some(differ)}; {ONE_ROW}"
    )


def _source(root: Path, tables: Sequence[str], pattern: str | None) -> tuple[pd.DataFrame, Path, list[str]]:
    """Returns the records, the folder that their file names are relative to, and notes."""
    if root.is_file() and root.suffix.lower() not in (".yaml", ".yml", ".tar"):
        if root.suffix.lower() not in FORMATS:
            message = unknown("table format", root.suffix, FORMATS)
            raise ManifestError(f"{message}; a spreadsheet program saves its sheet as CSV")
        return _named(root), root.parent, []
    home = root if root.is_dir() else root.parent
    if (home / "db.yaml").is_file():
        return read_audformat(home, tables, ALIASES["text"].split()), home, []
    for metadata in (home / "metadata.csv", home / "metadata.jsonl"):
        if metadata.is_file():
            return _named(metadata), home, []
    notes: list[str] = []
    files = (
        [Path(path).relative_to(home).as_posix() for path in find_audio(home, notes)] if root == home else []
    )
    if not files and (tars := tars_of(root)):
        notes = []
        return read_shards(tars, home, notes), home, notes
    if not pattern:
        notes.insert(0, f"{root} has no table and no pattern was given: speakers and emotions stay empty")
    return pd.DataFrame({"file": pd.Series(files, dtype=object)}), home, notes  # a name may be no UTF-8


def _named(path: Path) -> pd.DataFrame:
    try:
        return read_table(path)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


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
        path = Path(below(self.base, str(file)))
        if not path.is_relative_to(self.base):
            message = f"lies outside {self.base}; name the folder that holds all files with --audio-root"
            raise ManifestError(message)
        if not (
            member_of(path) or os.path.isfile(path)
        ):  # unlike Path.is_file, takes a name that is too long
            others = [path.with_name(path.name + suffix) for suffix in sorted(AUDIO)]
            if path.suffix.lower() in AUDIO:
                others += [path.with_suffix(suffix) for suffix in sorted(AUDIO)]
            path = next(filter(os.path.isfile, others), None) or self._called(path)
        return path.relative_to(self.base).as_posix()

    @cached_property
    def _names(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in map(Path, find_audio(self.base)):
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
