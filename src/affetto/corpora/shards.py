"""Data of other programs as tables: Lhotse Shar, WebDataset, any tar file of recordings, and audformat."""

import gzip
import json
import math
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml

from affetto.audio import SAMPLE_RATE
from affetto.corpora.tabular import is_missing
from affetto.errors import ManifestError, MissingPackageError, unknown
from affetto.media import AUDIO, MEDIA
from affetto.members import member_name
from affetto.progress import progress

_TEXTS = {"txt": "text", "cls": "cls"}  # members of WebDataset that are one cell, and its column
_SOURCE = ("file", "start", "end", "samples")
_SLACK_SECONDS = 0.01  # by which a supervision of a whole cut may be shorter than the cut
_Cells = dict[str, Any]


def tars_of(root: Path) -> list[Path]:
    """Returns a tar file itself, or those below a folder, sorted."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    return sorted(path for path in root.rglob("*.tar") if path.is_file())


def samples_of(frames: int, rate: int) -> int:
    """Returns how many samples at 16 kHz so many frames become."""
    return max(1, int(frames * SAMPLE_RATE / rate + 0.5))


def read_shards(tars: list[Path], home: Path, notes: list[str]) -> pd.DataFrame:
    """Returns a row for each recording in tar files: its place below ``home``, its key, and what comes along.

    That are the cells of ``KEY.json``, ``KEY.txt`` as the text and ``KEY.cls``; in Lhotse Shar, where
    ``cuts.NUMBER.jsonl.gz`` is next to ``recording.NUMBER.tar``, a row for each supervision of a cut. Notes
    count what is neither. A damaged tar file is a row of its own, which is no recording. Nothing is unpacked.
    """
    rows: list[_Cells] = []
    passed: Counter[str] = Counter()
    for tar in progress(tars, "scan tars"):
        field, _, rest = tar.name[:-4].partition(".")
        cuts = [tar.with_name(f"cuts.{rest}.jsonl{suffix}") for suffix in (".gz", "")]
        listed = next((path for path in cuts if path.is_file()), None) if rest else None
        place, own = tar.relative_to(home).as_posix(), list[_Cells]()
        if listed and field != "recording":
            passed[f"tar files of {field}"] += 1
            continue
        try:
            for row in _of_shar(tar, place, listed, passed) if listed else _of_keys(tar, place, passed):
                own.append(row)
        except (tarfile.TarError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
            notes.append(f"{tar}: of no use after {len(own)} recordings: {error}")
            own.append({"file": place})
        rows += own
    if passed:
        counts = ", ".join(f"{count} {what}" for what, count in passed.most_common())
        notes.append(f"passed over in tar files: {counts}")
    return _with_own_keys(pd.DataFrame(rows, columns=None if rows else ["file"]))


def _with_own_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with the name of the tar file in front of each key, where files share keys."""
    if "key" not in table or not table["key"].dropna().duplicated().any():
        return table
    tars = table["file"].str.extract(r"^(.+?)\.tar(?:/|$)", expand=False)
    return table.assign(key=tars.str.cat(table["key"], "/"))


def _members(tar: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with tarfile.open(tar, "r:") as file:
        while (member := file.next()) is not None:
            file.members.clear()  # type: ignore[attr-defined]  # else it would keep all of them
            if member.isreg():
                yield member, file


def _content(member: tarfile.TarInfo, file: tarfile.TarFile) -> str:
    found = file.extractfile(member)
    assert found is not None  # of a regular file
    return found.read().decode("utf-8-sig")


def _place(tar: str, member: tarfile.TarInfo) -> str:
    return member_name(tar, member.offset_data, member.size, member.name.lstrip("/"))


def _of_keys(tar: Path, place: str, passed: Counter[str]) -> Iterator[_Cells]:
    """Yields the recordings of a tar file; members whose names agree up to the first dot are one row."""
    held, cells = "", _Cells()
    for member, file in _members(tar):
        folder, base = os.path.split(member.name)
        stem, _, suffix = base.partition(".")
        key, suffix = os.path.join(folder, stem), suffix.lower()
        if key != held:
            if "file" in cells:
                yield cells
            held, cells = key, {"key": key}
        if f".{suffix.rpartition('.')[2]}" in AUDIO | MEDIA:
            if "file" in cells:
                passed["further recordings of a key"] += 1
            else:
                cells["file"] = _place(place, member)
        elif suffix == "json":
            content = json.loads(_content(member, file))
            own = content if isinstance(content, dict) else {"json": content}
            # Where the recording was before it came into the tar file is kept under other names.
            cells |= {f"source_{name}" if name in _SOURCE else name: cell for name, cell in own.items()}
        elif suffix in _TEXTS:
            cells[_TEXTS[suffix]] = _content(member, file).strip()
        else:
            passed[f".{suffix}"] += 1
    if "file" in cells:
        yield cells


def _of_shar(tar: Path, place: str, cuts: Path, passed: Counter[str]) -> Iterator[_Cells]:
    """Yields the supervisions of cuts whose recordings are in a tar file, or the cuts that have none."""
    places = {
        os.path.splitext(member.name)[0]: _place(place, member)
        for member, _ in _members(tar)
        if not member.name.endswith((".json", ".nodata", ".nometa"))
    }
    with gzip.open(cuts, "rb") if cuts.suffix == ".gz" else open(cuts, "rb") as lines:
        for cut in map(json.loads, lines):
            if cut["id"] not in places:
                passed["cuts without a recording"] += 1
                continue
            supervisions = cut.get("supervisions") or [{}]
            for own in supervisions:
                cells = {**(cut.get("custom") or {}), **(own.get("custom") or {})}
                cells |= {name: own.get(name) for name in ("speaker", "gender", "text", "language")}
                start, end = own.get("start", 0.0), own.get("start", 0.0) + own.get("duration", math.inf)
                if start > _SLACK_SECONDS or end < cut["duration"] - _SLACK_SECONDS:
                    cells |= {"start": max(0.0, start), "end": min(end, cut["duration"])}
                key = cut["id"] if len(supervisions) == 1 else f"{cut['id']}-{own['id']}"
                yield {**cells, "key": key, "file": places[cut["id"]]}


_FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, yaml.YAMLError)


def read_audformat(folder: Path, chosen: Sequence[str], texts: Collection[str]) -> pd.DataFrame:
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
