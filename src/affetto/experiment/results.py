"""Results: rows that a command produced, kept in ``results/NAME.json`` and drawn as ``results/NAME.md``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from affetto import plots
from affetto.errors import RunError
from affetto.evaluation.enrolment import normal_count
from affetto.evaluation.guard import STAMP
from affetto.pages import Table, percent, points
from affetto.runs import atomic_write, write_json, write_text

SHARES = ("war_low", "war_high", "macro_f1", "votes_f1", "calibration_error")


class Result(BaseModel):
    """One row of a results table; shares are fractions of 1, and further fields are kept as they are.

    Attributes:
        method: what was scored.
        protocol: name of the protocol.
        label_fraction: share of the training labels that was used.
        enrolment: enrolment utterances a speaker, an int or "all"; they are not scored.
        seeds: the seeds that were averaged.
        uar: unweighted average recall, with the ends of its 95 % interval.
        war: accuracy.
        against: method of the row that the paired difference is taken from.
        difference: UAR of this row minus UAR of that one, with the ends of its interval.
        command: the command line that makes the row again.
        manifest_sha256: hash of the manifest it was made on.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    method: str
    protocol: str
    label_fraction: float = 1.0
    enrolment: int | str = 0
    seeds: list[int] = []
    uar: float
    uar_low: float | None = None
    uar_high: float | None = None
    war: float
    against: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    command: str = ""
    manifest_sha256: str = ""

    @field_validator("enrolment", mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> int | str:
        count: int | str = normal_count(value)
        return count

    @field_validator("uar", "war")
    @classmethod
    def _fraction(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError("scores are fractions of 1, not percent")
        return value

    @property
    def key(self) -> tuple[str, str, float, int | str]:
        """What makes a row the same row: (method, protocol, label_fraction, enrolment)."""
        return self.method, self.protocol, round(self.label_fraction, 9), self.enrolment

    def extra(self, name: str) -> Any:
        """Returns a further field, None where the row has none."""
        return (self.model_extra or {}).get(name)


def read_results(path: str | Path) -> list[Result]:
    """Reads ``results/NAME.json``; a file that is not there is an empty list.

    Raises:
        RunError: for a file that holds no list of rows.
    """
    file = Path(path)
    if not file.exists():
        return []
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise RunError(f"{file} holds a {type(rows).__name__}; a list of result rows is needed")
        return [Result.model_validate(row) for row in rows]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RunError(f"cannot read results from {file}: {error}") from error


def merge_results(old: Iterable[Result], new: Iterable[Result]) -> list[Result]:
    """Replaces rows of the same key in their place and appends the others in order."""
    rows = {row.key: row for row in old}
    rows.update({row.key: row for row in new})
    return list(rows.values())


def write_results(path: str | Path, rows: Iterable[Result]) -> list[Result]:
    """Merges rows into ``results/NAME.json``, atomically; returns all its rows.

    Raises:
        RunError: when the file that is there cannot be read.
    """
    file = Path(path)
    merged = merge_results(read_results(file), rows)
    write_json(file, [row.model_dump(mode="json") for row in merged])
    return merged


def draw_results(
    path: str | Path,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    columns: Sequence[str] = (),
    figure: bool = False,
    more: Mapping[str, str] | None = None,
) -> Path:
    """Draws ``NAME.json`` as ``NAME.md`` beside it.

    Args:
        path: the JSON file.
        title: heading of the page; None takes the name of the file.
        notes: free lines, in Markdown, put under the table.
        columns: further fields of the rows to show; scores are written in percent like the others.
        figure: draw ``NAME.png`` too, a bar a row.
        more: further figures that lie beside it, as name of the file -> what it shows.

    Returns:
        The Markdown file.

    Raises:
        RunError: when there is no row to draw.
    """
    file = Path(path)
    rows = read_results(file)
    if not rows:
        raise RunError(f"{file} holds no result rows; there is nothing to draw")
    parts = [f"# {title or file.stem}", _lead(rows), _table(rows, columns).markdown()]
    if figure:
        with atomic_write(file.with_suffix(".png")) as temporary:
            temporary.write_bytes(plots.to_png(_bars(rows)))
        parts.append(f"![UAR of each row with its interval]({file.stem}.png)")
    if lines := _label_lines(rows):
        fractions = sorted({row.label_fraction for row in rows})
        curve = file.with_name(f"{file.stem}-labels.png")
        with atomic_write(curve) as temporary:
            temporary.write_bytes(plots.to_png(plots.label_curve(fractions, lines)))
        parts.append(f"![UAR against the share of labels, a line a method]({curve.name})")
    parts += [f"![{caption}]({name})" for name, caption in (more or {}).items()]
    parts += _paired(rows)
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    parts.append(_provenance(rows))
    page = file.with_suffix(".md")
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def _lead(rows: Sequence[Result]) -> str:
    text = (
        "Percent; in brackets the 95 % interval over speakers (bootstrap). "
        "Folds as the protocol averages them, seeds averaged."
    )
    protocols = {row.protocol for row in rows}
    if len(protocols) == 1:
        text = f"Protocol `{protocols.pop()}`. {text}"
    if any(row.enrolment for row in rows):
        text += " Enrolment: unlabelled utterances a speaker that were used to adapt and are not scored."
    return text


def _table(rows: Sequence[Result], columns: Sequence[str]) -> Table:
    several = len({row.protocol for row in rows}) > 1
    fractions = any(row.label_fraction != 1 for row in rows)
    compared = any(row.difference is not None for row in rows)
    heads = [
        "method",
        *(["protocol"] if several else []),
        *(["labels"] if fractions else []),
        "enrolment",
        "seeds",
    ]
    heads += ["UAR", "WAR", *(["UAR difference", "to"] if compared else []), *columns]
    cells = []
    for row in rows:
        line = [_marked(row)]
        line += [row.protocol] if several else []
        line += [f"{100 * row.label_fraction:g} %"] if fractions else []
        line += [str(row.enrolment), str(len(row.seeds) or "")]
        line += [percent(row.uar, row.uar_low, row.uar_high), percent(row.war)]
        if compared:
            line += [points(row.difference, row.difference_low, row.difference_high), row.against or ""]
        cells.append([*line, *(_written(name, row.extra(name)) for name in columns)])
    numbers = {"enrolment", "seeds", "UAR", "WAR", "UAR difference", "labels"}
    return Table(heads, cells, right=[name in numbers for name in heads])


def _label_lines(rows: Sequence[Result]) -> dict[str, NDArray[np.float64]]:
    """Returns UAR and interval of each method at each share of the labels, if there are several."""
    fractions = sorted({row.label_fraction for row in rows})
    lines: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        if len(fractions) > 1 and row.extra("way") and not row.enrolment:
            line = lines.setdefault(row.method, np.full((len(fractions), 3), np.nan))
            ends = [np.nan if end is None else end for end in (row.uar_low, row.uar_high)]
            line[fractions.index(row.label_fraction)] = [row.uar, *ends]
    return lines


def _paired(rows: Sequence[Result]) -> list[str]:
    """Returns a table of all paired differences, and what differences the protocol can tell from none."""
    lines, widths = [], []
    for row in rows:
        for name, (value, low, high) in (row.extra("versus") or {}).items():
            labels = f"{100 * row.label_fraction:g} %"
            lines.append([row.method, row.protocol, labels, points(value, low, high), name])
            widths += [(high - low) / 2] if None not in (low, high) else []
    if not lines:
        return []
    table = Table(
        ["method", "protocol", "labels", "UAR difference", "to"],
        lines,
        right=[False, False, True, True, False],
    )
    text = "Paired differences of UAR, on the same utterances."
    if widths:
        text += (
            f" Half an interval is {100 * float(np.median(widths)):.1f} points wide in the middle: smaller "
            "differences are not told from none here."
        )
    return ["## Paired differences", text, table.markdown()]


def _bars(rows: Sequence[Result]) -> Figure:
    names = [_marked(row) for row in rows]
    for number, row in enumerate(rows):
        names[number] += f", {row.enrolment} enrolled" if row.enrolment else ""
        names[number] += f", {100 * row.label_fraction:g} % of labels" if row.label_fraction != 1 else ""
    ends = [[np.nan if end is None else end for end in (row.uar_low, row.uar_high)] for row in rows]
    lows, highs = np.asarray(ends, dtype=np.float64).T
    stamp = STAMP if all(row.extra("speaker_dependent") for row in rows) else None
    return plots.bars(names, [row.uar for row in rows], lows, highs, stamp=stamp)


def _marked(row: Result) -> str:
    return f"{row.method} ({STAMP})" if row.extra("speaker_dependent") else row.method


def _written(name: str, value: Any) -> str:
    if isinstance(value, float):
        return percent(value) if name in SHARES else f"{value:.3g}"
    return "" if value is None else str(value)


def _provenance(rows: Sequence[Result]) -> str:
    commands = list(dict.fromkeys(row.command for row in rows if row.command))
    hashes: dict[str, list[str]] = {}
    for row in rows:
        if row.manifest_sha256 and row.protocol not in hashes.setdefault(row.manifest_sha256, []):
            hashes[row.manifest_sha256].append(row.protocol)
    parts = ["## How it was made"]
    parts += ["```sh\n" + "\n".join(commands) + "\n```"] if commands else ["The rows name no command."]
    lines = [f"- manifest `{digest}` ({', '.join(protocols)})" for digest, protocols in hashes.items()]
    return "\n\n".join(parts + (["\n".join(lines)] if lines else []))
