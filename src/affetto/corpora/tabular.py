"""Tables in memory and written: text stays text, and what is missing is empty."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from affetto.errors import ManifestError, some, unknown
from affetto.runs import FORMATS, atomic_write
from affetto.tables import PART_ROWS

# The columns that every manifest has, in this order; further ones follow them.
COLUMNS = (
    *("key", "file", "start", "end", "speaker", "emotion", "gender"),
    *("session", "text", "language", "split", "corpus", "intensity_level"),
)
TIMES = ("start", "end")
SAMPLES = "samples"  # of a recording in a tar file, at 16 kHz: what may be read without a cache has it
ONE_ROW = (
    "a manifest has one row an utterance: leave repeated rows out, and put votes of several raters into "
    "columns such as votes_anger"
)
VECTOR = re.compile(r"(?P<file>.+\.npy)#(?P<row>\d+)")  # a cell that names a row of an array on disk


def _free_of(*taken: str) -> AfterValidator:
    def check(name: str) -> str:
        if name in taken:
            raise ValueError("every manifest has this one; choose another name")
        return name

    return AfterValidator(check)


# The name of a column that settings add to a manifest; for one of arrays, whose file is next to
# ``manifest.csv`` and ``meta.json``, those are taken too.
NewColumn = Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$"), _free_of(*COLUMNS)]
NewArrayColumn = Annotated[NewColumn, _free_of("manifest", "meta")]


def write_table(table: pd.DataFrame, path: Path, near_to: Path | None = None) -> None:
    """Writes a table atomically, in the format of :data:`FORMATS` that the suffix names.

    Cells ``FILE.npy#ROW`` name files relative to the folder ``near_to``, where there is one.
    """

    def rename(part: pd.DataFrame) -> pd.DataFrame:
        return part if near_to is None else with_array_files(part, lambda file: near(file, near_to))

    with atomic_write(path) as temporary:
        match path.suffix.lower():
            case ".csv" | ".tsv" as suffix:
                for begin in range(0, max(1, len(table)), PART_ROWS):
                    how: dict[str, Any] = {"mode": "a", "header": False} if begin else {}
                    part = rename(table.iloc[begin : begin + PART_ROWS])
                    part.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",", **how)
            case ".jsonl":
                rename(table).to_json(temporary, orient="records", lines=True, force_ascii=False)
            case ".parquet":
                rename(table).to_parquet(temporary, index=False)
            case _:
                temporary.touch()
                raise ManifestError(unknown("table format", path.suffix, FORMATS))


def near(path: str | Path, folder: Path) -> str:
    """Returns a path relative to a folder if it is inside or next to it, and absolute elsewhere."""
    path = os.path.abspath(path)
    close = Path(path).is_relative_to(folder.parent) and folder.parent != Path(folder.anchor)
    return os.path.relpath(path, folder) if close else path


def with_array_files(table: pd.DataFrame, rename: Callable[[str], str]) -> pd.DataFrame:
    """Returns the table with another name for every file of a cell ``FILE.npy#ROW``."""
    rename, changed = cache(rename), {}

    def renamed(value: Any) -> Any:
        cell = VECTOR.fullmatch(value) if isinstance(value, str) else None
        return f"{rename(cell['file'])}#{cell['row']}" if cell else value

    for name in table.columns.difference(list(COLUMNS)):
        values = table[name].tolist()
        if any(isinstance(value, str) and VECTOR.fullmatch(value) for value in values):
            changed[name] = pd.Series([renamed(value) for value in values], table.index, dtype=object)
    return table.assign(**changed)


def timed(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with seconds in place of spans such as ``0 days 00:00:01.5`` and ``1,5``."""

    def of_cell(cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell.total_seconds() if isinstance(cell, timedelta) else cell
        span = re.fullmatch(r"\s*(?:(-?\d+) days?,? )?(?:(\d+):(\d\d):)?(\d+(?:[.,]\d+)?)\s*", cell)
        if span is None or not (span[1] or span[2] or "," in cell):
            return cell
        days, hours, minutes = (int(part or 0) for part in span.groups()[:3])
        return ((days * 24 + hours) * 60 + minutes) * 60 + float(span[4].replace(",", "."))

    made = {}
    for name in TIMES:
        if name in table and table[name].dtype.kind == "m":
            made[name] = table[name].dt.total_seconds()
        elif name in table and pd.to_numeric(table[name].astype(str), errors="coerce").isna().any():
            made[name] = table[name].map(of_cell)
    return table.assign(**made)


def below(root: str | Path, file: str) -> str:
    """Returns the path of a file; backslashes separate folders where no file has them in its name."""
    path = os.path.normpath(os.path.join(root, file))
    if "\\" in file and not os.path.exists(path):
        return os.path.normpath(os.path.join(root, file.replace("\\", "/")))
    return path


def normal(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with every column of :data:`COLUMNS`, in order, each of its type.

    Only ``file`` is needed; a missing ``key`` becomes the file name without its suffix.
    """
    if "file" not in table.columns:
        raise ManifestError(lacks("file", table.columns))
    table = timed(table.reset_index(drop=True))
    if "key" not in table.columns:
        table["key"] = _keys(table)
    for name in set(COLUMNS).difference(table.columns):
        table[name] = np.nan if name in TIMES else None
    for name in table.columns:
        table[name] = to_seconds(table[name]) if name in TIMES else _column(table[name], name in COLUMNS)
    for name in ("key", "file"):
        if table[name].isna().any():
            raise ManifestError(f"the column {name!r} is empty in row {int(table[name].isna().argmax()) + 1}")
    if table["key"].duplicated().any():
        raise ManifestError(
            f"keys occur twice: {some(table.loc[table['key'].duplicated(), 'key'])}; {ONE_ROW}"
        )
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def _column(values: "pd.Series[Any]", text: bool) -> "pd.Series[Any]":
    """Text columns hold str or None; of the others, one that holds nothing but plain numbers is numeric."""
    if not text:
        if values.dtype.kind in "biuf" or any(isinstance(value, list | dict) for value in values):
            return values
        strings = values.dropna().astype(str)
        if len(strings) and strings.str.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?").all():
            return pd.to_numeric(values)
    cells = zip(values.tolist(), values.isna().tolist(), strict=True)
    made: list[str | None] = [
        None if missing else value if isinstance(value, str) else _text(value) for value, missing in cells
    ]
    if values.name in COLUMNS and values.name not in ("key", "file"):  # "s1 " and "s1" are one speaker
        tidy = {cell: unicodedata.normalize("NFC", cell).strip() or None for cell in set(made) if cell}
        made = [tidy[cell] if cell else None for cell in made]
    return pd.Series(made, dtype=object)


def _text(value: Any) -> str:
    """Returns a cell as text; 3 stays 3, though a column with missing cells holds it as 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def to_seconds(values: "pd.Series[Any]") -> "pd.Series[float]":
    """Returns a column of times as numbers; a ManifestError for what is none."""
    try:
        return pd.to_numeric(values).astype(float)
    except (ValueError, TypeError) as error:
        raise ManifestError(f"the column {values.name!r} must hold seconds: {error}") from error


def _keys(table: pd.DataFrame) -> list[str]:
    """File names without suffix, with the start where one file has several rows."""
    keys = [str(Path(str(name)).with_suffix("")) for name in table["file"]]
    if "start" not in table.columns:
        return keys
    rows = zip(keys, table["start"], pd.Series(keys).duplicated(keep=False), strict=True)
    return [f"{key}@{start}" if again and not is_missing(start) else key for key, start, again in rows]


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or (not isinstance(value, list | dict) and bool(pd.isna(value)))


def lacks(name: str, columns: Iterable[object]) -> str:
    """Returns the error message for a column that a table does not have."""
    names = [str(column) for column in columns]
    alike = {"file": ["path", "filename", "file_name", "wav", "audio"], "emotion": ["label"]}.get(name, [])
    close = [other for other in names if other in alike] or get_close_matches(name, names, n=1)
    hint = f"; is it the column {close[0]!r}? affetto scan table maps columns" if close else ""
    return f"lacks the column {name!r}; it has {', '.join(names) or 'none'}{hint}"
