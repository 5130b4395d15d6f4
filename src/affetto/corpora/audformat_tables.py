"""The tables of an audformat database as one."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml

from affetto.corpora.tabular import is_missing
from affetto.errors import ManifestError, MissingPackageError, unknown

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
