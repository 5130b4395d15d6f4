"""Tables of results: rows that a command produced, kept in ``NAME.json`` and drawn as ``NAME.md``."""

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
from affetto.evaluation.metrics import metrics_of
from affetto.pages import Table, percent, points
from affetto.runs import atomic_write, read_json, write_json, write_text


class Result(BaseModel):
    """One row of a results table; ``docs/evaluation.md`` explains the fields.

    Shares are fractions of 1. Further fields, such as other metrics, are kept as they are.
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
        return normal_count(value)

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

    @property
    def ends(self) -> list[float]:
        """UAR and its interval, NaN where there is none."""
        return [np.nan if end is None else end for end in (self.uar, self.uar_low, self.uar_high)]

    def extra(self, name: str) -> Any:
        """Returns a further field, None where the row has none."""
        return (self.model_extra or {}).get(name)


def further_metrics() -> list[str]:
    """Returns the metrics that a table shows when its ``columns`` name them."""
    return [name for name in metrics_of() if name not in Result.model_fields]


def read_results(path: str | Path) -> list[Result]:
    """Reads ``NAME.json``; a file that is not there is an empty list."""
    file = Path(path)
    if not file.exists():
        return []
    try:
        rows = read_json(file)
        if not isinstance(rows, list):
            raise RunError(f"{file} holds a {type(rows).__name__}; a list of result rows is needed")
        return [Result.model_validate(row) for row in rows]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RunError(f"cannot read results from {file}: {error}") from error


def write_results(path: str | Path, rows: Iterable[Result]) -> list[Result]:
    """Merges rows into ``NAME.json``, atomically, and returns all its rows.

    A row of the same key takes the old one's place; the others follow in order.
    """
    file = Path(path)
    merged = {row.key: row for row in (*read_results(file), *rows)}
    write_json(file, [row.model_dump(mode="json") for row in merged.values()])
    return list(merged.values())


def draw_results(
    path: str | Path,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    columns: Sequence[str] = (),
    figure: bool = False,
    more: Mapping[str, str] | None = None,
    curves: Sequence[str] = (),
) -> Path:
    """Draws ``NAME.json`` as ``NAME.md`` next to it.

    Args:
        path: the JSON file.
        title: heading of the page; the name of the file by default.
        notes: lines of Markdown to put under the table.
        columns: further fields of the rows to show, metrics in percent.
        figure: draw ``NAME.png`` too, a bar a row.
        more: further figures: name of the file -> what it shows.
        curves: methods to draw against the share of labels; () for those of several ways.

    Returns:
        The Markdown file.
    """
    file = Path(path)
    rows = read_results(file)
    if not rows:
        raise RunError(f"{file} holds no result rows; there is nothing to draw")
    figures = dict(more or {})
    if lines := _label_lines(rows, curves):
        caption = "UAR against the share of labels, a line a method"
        figures = drawn(plots.label_curve(_fractions(rows), lines), file, "labels", caption) | figures
    if figure:
        figures = drawn(_bars(rows), file, "", "UAR of each row with its interval") | figures
    parts = [f"# {title or file.stem}", _lead(rows), _table(rows, columns).markdown()]
    parts += [f"![{caption}]({name})" for name, caption in figures.items()]
    parts += _paired(rows)
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    page = file.with_suffix(".md")
    write_text(page, "\n\n".join([*parts, *_provenance(rows)]) + "\n")
    return page


def drawn(figure: Figure | None, table: Path, name: str, caption: str) -> dict[str, str]:
    """Writes ``TABLE-NAME.png``, where there is a figure; returns its name, if it exists, and the caption."""
    file = table.with_name(f"{table.stem}{'-' * bool(name)}{name}.png")
    if figure is not None:
        with atomic_write(file) as temporary:
            temporary.write_bytes(plots.to_png(figure))
    return {file.name: caption} if file.exists() else {}


def _lead(rows: Sequence[Result]) -> str:
    text = (
        "Percent; in brackets the 95 % interval over speakers (bootstrap). "
        "Folds as the protocol averages them, seeds averaged."
    )
    protocols = {row.protocol for row in rows}
    if len(protocols) == 1:
        text = f"Protocol `{protocols.pop()}`. {text}"
    if any(row.extra("calibration_error") is not None for row in rows):
        text += " ECE: expected calibration error, the mean gap of confidence and share right."
    if any(row.enrolment for row in rows):
        text += " Enrolment: unlabelled utterances a speaker that were used to adapt and are not scored."
    return text


def _table(rows: Sequence[Result], columns: Sequence[str]) -> Table:
    titles = {name: metric.title for name, metric in metrics_of().items()}
    cells = [
        {
            "method": _marked(row),
            "protocol": row.protocol,
            "labels": f"{100 * row.label_fraction:g} %",
            "enrolment": str(row.enrolment),
            "seeds": str(len(row.seeds) or ""),
            "UAR": percent(*row.ends),
            "WAR": percent(row.war),
            "ECE": _written("calibration_error", row.extra("calibration_error")),
            "UAR difference": points(row.difference, row.difference_low, row.difference_high),
            "to": row.against or "",
            **{titles.get(name, name): _written(name, row.extra(name)) for name in columns},
        }
        for row in rows
    ]
    needed = {"protocol": len({row.protocol for row in rows}) > 1}
    needed["ECE"] = any(row.extra("calibration_error") is not None for row in rows)
    needed["labels"] = any(row.label_fraction != 1 for row in rows)
    needed["UAR difference"] = needed["to"] = any(row.difference is not None for row in rows)
    heads = [name for name in cells[0] if needed.get(name, True)]
    numbers = {"enrolment", "seeds", "UAR difference", "labels", "ECE", *titles.values()}
    shown = [[line[name] for name in heads] for line in cells]
    return Table(heads, shown, right=[name in numbers for name in heads])


def _written(name: str, value: Any) -> str:
    if isinstance(value, float):
        share = name.removesuffix("_low").removesuffix("_high") in (*metrics_of(), "calibration_error")
        return percent(value) if share else f"{value:.3g}"
    return "" if value is None else str(value)


def _fractions(rows: Sequence[Result]) -> list[float]:
    return sorted({row.label_fraction for row in rows})


def _label_lines(rows: Sequence[Result], curves: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Returns UAR and interval of each method at each share of the labels, if there are several."""
    fractions = _fractions(rows)
    lines: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        shown = row.method in curves if curves else row.extra("way")
        if len(fractions) > 1 and shown and not row.enrolment:
            line = lines.setdefault(row.method, np.full((len(fractions), 3), np.nan))
            line[fractions.index(row.label_fraction)] = row.ends
    return lines


def _paired(rows: Sequence[Result]) -> list[str]:
    """Returns a table of all paired differences, and how small a difference the protocol can show."""
    lines, widths = [], []
    for row in rows:
        for name, (value, low, high) in (row.extra("versus") or {}).items():
            labels = f"{100 * row.label_fraction:g} %"
            shown = f"{row.method}, {row.enrolment} enrolled" if row.enrolment else row.method
            lines.append([shown, row.protocol, labels, points(value, low, high), name])
            widths += [(high - low) / 2] if None not in (low, high) else []
    if not lines:
        return []
    text = "Paired differences of UAR, on the same utterances."
    if widths:
        half = f"{100 * float(np.median(widths)):.1f}"
        text += (
            f" The median half-width of an interval is {half} points: smaller differences are not resolved."
        )
    heads = ["method", "protocol", "labels", "UAR difference", "to"]
    table = Table(heads, lines, right=[False, False, True, True, False])
    return ["## Paired differences", text, table.markdown()]


def _bars(rows: Sequence[Result]) -> Figure:
    names = [_marked(row) for row in rows]
    for number, row in enumerate(rows):
        names[number] += f", {row.enrolment} enrolled" if row.enrolment else ""
        names[number] += f", {100 * row.label_fraction:g} % of labels" if row.label_fraction != 1 else ""
    values, lows, highs = np.asarray([row.ends for row in rows], dtype=np.float64).T
    stamp = STAMP if all(row.extra("speaker_dependent") for row in rows) else None
    return plots.bars(names, values, lows, highs, stamp=stamp)


def _marked(row: Result) -> str:
    return f"{row.method} ({STAMP})" if row.extra("speaker_dependent") else row.method


def _provenance(rows: Sequence[Result]) -> list[str]:
    commands = list(dict.fromkeys(row.command for row in rows if row.command))
    hashes: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.manifest_sha256:
            hashes.setdefault(row.manifest_sha256, {})[row.protocol] = None
    parts = [
        "## How it was made",
        "```sh\n" + "\n".join(commands) + "\n```" if commands else "The rows name no command.",
    ]
    lines = [f"- manifest `{digest}` ({', '.join(protocols)})" for digest, protocols in hashes.items()]
    return [*parts, "\n".join(lines)] if lines else parts
