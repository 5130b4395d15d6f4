"""Tables on disk and in memory: text stays text, and what is missing is empty."""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from affetto.errors import ManifestError, unknown
from affetto.runs import FORMATS, atomic_write

# The columns that every manifest has, in this order; further ones follow them.
COLUMNS = (
    *("key", "file", "start", "end", "speaker", "emotion", "gender"),
    *("session", "text", "language", "split", "corpus", "intensity_level"),
)
TIMES = ("start", "end")
_TOO_MANY = (
    "line {line} has {cells} cells and the header {names}; a cell with separators needs quotation marks"
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


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table, text as text: no id loses its zeros, and only an empty cell is missing."""
    if not path.is_file():
        raise ManifestError("no such file; affetto scan makes a manifest")
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                return _read_delimited(path, [""])
            case ".jsonl":
                return _read_lines(path)
            case ".parquet":
                return pd.read_parquet(path)
    except UnicodeDecodeError as error:
        message = "cannot be read as a table: it is not UTF-8; save it again as CSV in UTF-8"
        raise ManifestError(message) from error
    except (ValueError, OSError, AttributeError) as error:
        raise ManifestError(f"cannot be read as a table: {error}") from error
    raise ManifestError(unknown("table format", path.suffix, FORMATS))


def _read_lines(path: Path) -> pd.DataFrame:
    """Reads a JSON object a line; whole numbers stay whole where others are missing."""
    rows = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows.append(dict(json.loads(line)) if line.strip() else None)
            except (ValueError, TypeError) as error:
                raise ValueError(f"line {number} is no JSON object: {error}") from error
    table = pd.DataFrame([row for row in rows if row is not None], dtype=object)
    whole = {name: table[name].infer_objects() for name in map(str, table) if not table[name].isna().any()}
    return table.assign(**whole)


def read_listing(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """Reads a delimited text or a JSON list that must have some columns, all text; an empty cell is ""."""
    as_json = path.suffix == ".json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if as_json else _read_delimited(path)
        table = pd.DataFrame(rows).fillna("").astype(str)
    except (ValueError, OSError) as error:
        fault = "is not a list of utterances" if as_json else "cannot be read as a table"
        raise ManifestError(f"{path} {fault}: {error}") from error
    table.columns = table.columns.str.strip()
    if missing := set(columns).difference(table.columns):
        raise ManifestError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return table


def _read_delimited(path: Path, missing: Sequence[str] = ()) -> pd.DataFrame:
    """Reads CSV, TSV or what a spreadsheet program writes: with a byte order mark, and other separators."""
    with open(path, encoding="utf-8-sig", newline="") as lines:
        header = lines.readline()
    given = header.strip().removeprefix("sep=") if header.startswith("sep=") else ""
    most = max(",;\t", key=re.sub('"[^"]*"', "", header).count)
    separator = "\t" if path.suffix.lower() == ".tsv" else given or most
    return pd.read_csv(
        path,
        sep=separator,
        skiprows=1 if given else 0,
        index_col=False,  # or a row with one cell too many would shift every column
        dtype=str,
        keep_default_na=False,
        na_values=missing,
        encoding="utf-8-sig",
        quoting=_quoting(path, separator, int(bool(given))),
    )


def _quoting(path: Path, separator: str, skipped: int) -> Literal[0, 3]:
    """Returns whether quotation marks enclose cells, or are text as any other; no row may be swallowed.

    Where a cell in quotation marks holds line breaks, and yet each line has as many cells as the header, the
    marks belong to the text: a table with tabs is then read line by line, another is refused.
    """
    quoted, fault, line = _shape(path, separator, skipped, csv.QUOTE_MINIMAL)
    if not (fault or line):
        return csv.QUOTE_MINIMAL
    plain, plain_fault, _ = _shape(path, separator, skipped, csv.QUOTE_NONE)
    if not plain_fault and plain > quoted and (fault or separator == "\t"):
        return csv.QUOTE_NONE
    if fault:
        raise ValueError(fault)
    if plain_fault:
        return csv.QUOTE_MINIMAL
    raise ValueError(
        f"line {line}: a quotation mark begins a cell that goes on in the next line, and each line could be "
        "a row of its own; write quotation marks in text twice, or save the table as .jsonl"
    )


def _shape(path: Path, separator: str, skipped: int, quoting: Literal[0, 3]) -> tuple[int, str, int]:
    """Returns how many rows can be read, what is wrong with the next, and the first line that goes on."""
    rows, line, continued, width = 0, 0, 0, 0
    with open(path, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=separator, quoting=quoting, strict=quoting == csv.QUOTE_MINIMAL)
        try:
            for cells in reader:
                line, before = reader.line_num, line
                width = width or (len(cells) if line > skipped else 0)
                short = quoting == csv.QUOTE_NONE and 0 < len(cells) < width
                if line > skipped and (any(cells[width:]) or short):
                    return rows, _TOO_MANY.format(line=before + 1, cells=len(cells), names=width), continued
                if line > before + 1 and width > 1:
                    continued = continued or before + 1
                rows += 1
        except csv.Error as error:
            return rows, f"line {line + 1}: {error}; a quotation mark in text is written twice", continued
    return rows, "", continued


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table atomically, in the format of :data:`FORMATS` that the suffix names."""
    with atomic_write(path) as temporary:
        match path.suffix.lower():
            case ".csv" | ".tsv" as suffix:
                table.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",")
            case ".jsonl":
                table.to_json(temporary, orient="records", lines=True, force_ascii=False)
            case ".parquet":
                table.to_parquet(temporary, index=False)
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
    for name in table.columns.difference(list(COLUMNS)):
        values = table[name].tolist()
        cells = [VECTOR.fullmatch(value) if isinstance(value, str) else None for value in values]
        if any(cells):
            pairs = zip(cells, values, strict=True)
            renamed = [f"{rename(cell['file'])}#{cell['row']}" if cell else value for cell, value in pairs]
            changed[name] = pd.Series(renamed, table.index, dtype=object)
    return table.assign(**changed)


def normal(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with every column of :data:`COLUMNS`, in order, each of its type.

    Only ``file`` is needed; a missing ``key`` becomes the file name without its suffix.
    """
    if "file" not in table.columns:
        raise ManifestError(lacks("file", table.columns))
    table = table.reset_index(drop=True).copy()
    if "key" not in table.columns:
        table["key"] = _keys(table)
    for name in set(COLUMNS).difference(table.columns):
        table[name] = np.nan if name in TIMES else None
    for name in table.columns:
        table[name] = _seconds(table[name]) if name in TIMES else _column(table[name], name in COLUMNS)
    for name in ("key", "file"):
        if table[name].isna().any():
            raise ManifestError(f"the column {name!r} is empty in row {int(table[name].isna().argmax()) + 1}")
    if table["key"].duplicated().any():
        raise ManifestError(f"keys occur twice: {some(table.loc[table['key'].duplicated(), 'key'])}")
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
    made: list[str | None] = [None if missing else _text(value) for value, missing in cells]
    if values.name in COLUMNS and values.name not in ("key", "file"):  # "s1 " and "s1" are one speaker
        tidy = {cell: unicodedata.normalize("NFC", cell).strip() or None for cell in set(made) if cell}
        made = [tidy[cell] if cell else None for cell in made]
    return pd.Series(made, dtype=object)


def _text(value: Any) -> str:
    """Returns a cell as text; 3 stays 3, though a column with missing cells holds it as 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _seconds(values: "pd.Series[Any]") -> "pd.Series[float]":
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
    return [f"{key}@{start}" if again else key for key, start, again in rows]


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


def some(names: Iterable[object], most: int = 8) -> str:
    """Returns the first few names of a list, sorted, and how many more there are."""
    listed = sorted({str(name) for name in names})
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
