"""A row a speaker and recording: for how long each emotion lasted, how often it changed, the means."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.errors import ConfigError, unknown
from affetto.inference.rows import UNKNOWN, RowFormat
from affetto.inference.writers import NUMBER, TEXT, WHOLE, rounded
from affetto.tables import Row, write_lines, write_parquet

TABLES = (".csv", ".jsonl", ".parquet")
"""Suffixes of tables."""


def refuse_summary(path: Path) -> None:
    """Refuses another suffix than those of tables."""
    if path.suffix.lower() not in TABLES:
        raise ConfigError(unknown("format of a summary", path.suffix or path.name, TABLES))


def summary_rows(rows: Iterable[Row], form: RowFormat) -> list[Row]:
    """Returns a row for each recording and speaker, in the order in which they come.

    ``segments`` counts the rows with an answer, ``seconds`` is how long they last; where two overlap, the
    time counts for the later one. ``changes`` counts how often an emotion follows another one, whatever is
    ``unknown`` between them. Means are weighted by seconds.
    """
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        own = groups.setdefault((row["file"], row.get("speaker")), [])
        if not row["error"] and not row.get("enrolled"):
            own.append(row)
    return [
        {"file": file, "speaker": speaker, **_summary(sorted(own, key=lambda row: row["start"]), form)}
        for (file, speaker), own in groups.items()
    ]


def write_summary(path: Path, rows: Iterable[Row], form: RowFormat) -> None:
    """Writes :func:`summary_rows` as a table."""
    found = [{name: rounded(value) for name, value in row.items()} for row in summary_rows(rows, form)]
    if path.suffix.lower() == ".parquet":
        write_parquet(path, pyarrow.schema(_types(form)), found)
    else:
        write_lines(path, list(_types(form)), found)


def _types(form: RowFormat) -> dict[str, Any]:
    labels = [] if form.values else [*form.labels, UNKNOWN]
    types = {"file": TEXT, "speaker": TEXT, "segments": WHOLE, "seconds": NUMBER}
    types |= {f"seconds_{label}": NUMBER for label in labels}
    types |= {} if form.values else {"changes": WHOLE}
    return types | dict.fromkeys(form.predictions, NUMBER)


def _summary(rows: list[Row], form: RowFormat) -> Row:
    starts = [row["start"] for row in rows]
    ends = [min(row["end"], after) for row, after in zip(rows, [*starts[1:], np.inf], strict=False)]
    seconds = np.subtract(ends, starts).astype(np.float64)
    found: Row = dict.fromkeys(_types(form)) | {"segments": len(rows), "seconds": float(seconds.sum())}
    if not form.values:
        labels = [row["label"] for row in rows]
        for label in [*form.labels, UNKNOWN]:
            found[f"seconds_{label}"] = float(seconds[[each == label for each in labels]].sum())
        known = [label for label in labels if label != UNKNOWN]
        found["changes"] = sum(one != other for one, other in pairwise(known))
    answered = [row[form.predictions[0]] is not None for row in rows]
    if seconds[answered].sum() > 0:
        for name in form.predictions:
            found[name] = float(
                np.average([row[name] for row in rows if row[name] is not None], weights=seconds[answered])
            )
    return {name: value for name, value in found.items() if name not in ("file", "speaker")}
