"""Tables from disk: text as text, every line a row or an error that names it."""

import csv
import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
from pyarrow import ArrowException, parquet, types  # type: ignore[import-untyped]

from affetto.errors import ManifestError, unknown
from affetto.opening import is_pointer
from affetto.runs import FORMATS, read_json

_TOO_MANY = "line {line} has {cells} cells and the header {names}; text with separators needs quotation marks"


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table, text as text: no id loses its zeros, and only an empty cell is missing."""
    [table] = read_parts(path)
    return table


def read_parts(path: Path, rows: int | None = None) -> Iterator[pd.DataFrame]:
    """Yields a table in parts of so many rows, at least one; as a whole with None."""
    if not path.is_file():
        raise ManifestError("no such file; affetto scan makes a manifest")
    _refuse_pointer(path)
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                yield from _read_delimited(path, rows, [""])
            case ".jsonl":
                yield from _read_lines(path, rows)
            case ".parquet":
                yield from _read_parquet(path, rows)
            case _:
                raise ManifestError(unknown("table format", path.suffix, FORMATS))
    except UnicodeDecodeError as error:
        message = "cannot be read as a table: it is not UTF-8; save it again as CSV in UTF-8"
        raise ManifestError(message) from error
    except (ValueError, OSError, AttributeError, ArrowException) as error:
        raise ManifestError(f"cannot be read as a table: {error}") from error


def _read_parquet(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """Reads Parquet, but not the sound that data sets of Hugging Face hold."""
    schema = parquet.read_schema(path)
    inner = {field.name: field.type for field in schema if types.is_struct(field.type)}
    sound = [name for name, kind in inner.items() if kind.get_field_index("bytes") >= 0]
    if sound and "file" not in schema.names:
        raise ManifestError(
            f"the column {sound[0]!r} holds the recordings themselves; write the 'bytes' of each to a file, "
            "and a table with the names of these files in a column 'file'"
        )
    with parquet.ParquetFile(path) as file:
        whole = rows is None or not file.metadata.num_rows
        for part in [file.read()] if whole else file.iter_batches(rows):
            part.validate(full=True)  # or text that is not UTF-8 would fail later
            yield part.to_pandas()


def _read_lines(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """Reads a JSON object a line; whole numbers stay whole where others are missing."""

    def parsed(number: int, line: str) -> dict[str, Any]:
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"line {number} is no JSON object: {error}") from error

    with open(path, encoding="utf-8-sig") as lines:
        objects = (parsed(number, line) for number, line in enumerate(lines, 1) if line.strip())
        part = list(islice(objects, rows))
        while True:
            table = pd.DataFrame(part, dtype=object)
            names = [name for name in map(str, table) if not table[name].isna().any()]
            yield table.assign(**{name: table[name].infer_objects() for name in names})
            part = list(islice(objects, rows)) if rows else []
            if not part:
                return


def _refuse_pointer(path: Path) -> None:
    """Refuses a text of git-lfs that stands for a table."""
    with open(path, "rb") as file:
        if is_pointer(file.read(64)):
            raise ManifestError(
                f"{path.name} is a pointer of git-lfs, not the table; git lfs pull fetches it"
            )


def read_listing(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """Reads a delimited text or a JSON list that must have some columns, all text; an empty cell is ""."""
    as_json = path.suffix == ".json"
    try:
        _refuse_pointer(path)
        rows = read_json(path) if as_json else next(_read_delimited(path))
        table = pd.DataFrame(rows).fillna("").astype(str)
    except (ValueError, OSError, RecursionError) as error:
        fault = "is not a list of utterances" if as_json else "cannot be read as a table"
        raise ManifestError(f"{path} {fault}: {error}") from error
    table.columns = table.columns.str.strip()
    if missing := set(columns).difference(table.columns):
        raise ManifestError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return table


def _read_delimited(
    path: Path, rows: int | None = None, missing: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Reads CSV, TSV or what a spreadsheet program writes: with a byte order mark, and other separators."""
    with open(path, encoding="utf-8-sig", newline="") as lines:
        header = lines.readline()
    given = header.strip().removeprefix("sep=") if header.startswith("sep=") else ""
    most = max(",;\t", key=re.sub('"[^"]*"', "", header).count)
    separator = "\t" if path.suffix.lower() == ".tsv" else given or most
    read = pd.read_csv(
        path,
        chunksize=cast(Any, rows),  # of which the stubs do not know that it may be None
        sep=separator,
        skiprows=1 if given else 0,
        index_col=False,  # or a row with one cell too many would shift every column
        dtype=str,
        keep_default_na=False,
        na_values=missing,
        encoding="utf-8-sig",
        quoting=_quoting(path, separator, int(bool(given))),
    )
    yield from [read] if isinstance(read, pd.DataFrame) else read


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
