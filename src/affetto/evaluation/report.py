"""The report of one run: scores with intervals, tables, figures, and what others published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto import plots
from affetto.evaluation.bootstrap import Difference, Interval, fields
from affetto.evaluation.enrolment import curve_lines
from affetto.evaluation.guard import STAMP
from affetto.evaluation.metrics import METRICS, Reliability, metrics_of, same_metric
from affetto.pages import Block, Heading, Page, Picture, Table, Text, decimal, percent, points
from affetto.runs import write_json

# In place of a share that is not there.
EMPTY = {"recall": "no test rows", "precision": "never given", "difference": ""}
ALTS = {
    "confusion": "Confusion matrix: share of each true class that was given each label",
    "agreement": "Predicted values against those of the raters, a panel a dimension",
    "reliability": "Reliability: share of right predictions by confidence",
    "enrolment": "UAR against the number of enrolment utterances",
}


@dataclass(frozen=True)
class Report:
    """What a run is worth on the test part of a protocol; made by :func:`~affetto.evaluation.summarise`.

    Attributes:
        method: name of the run.
        protocol: name of the protocol.
        labels: the K classes, or dimensions, in order.
        average: how folds are averaged, "mean" or "pooled".
        enrolment: enrolment utterances a speaker, an int or "all".
        seeds: the seeds that were averaged.
        folds: how many folds there are.
        utterances: how many utterances were scored, each counted once.
        speakers: how many speakers they are from.
        speaker_dependent: speakers are shared between parts; stamped on everything.
        scores: metric ("uar", "war", ...; "ccc_D" of a dimension D) -> value and interval.
        confusion: (K, K) counts over all folds, the mean over seeds; None for dimensions, like the next ones.
        per_class: a row a class; ``per_speaker``, ``per_gender`` (None where no gender is known) and
            ``per_fold`` likewise.
        ratings: true and predicted dimensions of the first seed, (N, K) each.
        calibration: confidence bins, None where the table has no confidence.
        calibration_error: expected calibration error, the mean over seeds.
        against: name of the run it is compared with.
        differences: metric -> paired difference to that run.
        published: figures of others on this protocol.
        curve: the enrolment curve, where one was given.
        notes: what the reader must know.
    """

    method: str
    protocol: str
    labels: tuple[str, ...]
    average: str
    enrolment: int | str
    seeds: tuple[str, ...]
    folds: int
    utterances: int
    speakers: int
    speaker_dependent: bool
    scores: dict[str, Interval]
    confusion: NDArray[np.float64] | None = None
    per_class: pd.DataFrame | None = None
    per_speaker: pd.DataFrame | None = None
    per_fold: pd.DataFrame | None = None
    per_gender: pd.DataFrame | None = None
    ratings: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    calibration: Reliability | None = None
    calibration_error: float | None = None
    against: str | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    published: tuple[Mapping[str, Any], ...] = ()
    curve: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Returns the report as Markdown; its pictures are files next to it (see :meth:`write`)."""
        return self._page({}).markdown()

    def html(self) -> str:
        """Returns the report as one HTML page that needs no other file."""
        return self._page(self.pictures()).html()

    def write(self, folder: str | Path) -> None:
        """Writes report.md, report.html, report.json and the figures into a folder."""
        self._page(self.pictures()).write(Path(folder))
        write_json(Path(folder) / "report.json", self.row())

    def row(self, **extra: Any) -> dict[str, Any]:
        """Returns the row for a results table; ``extra`` gives command, manifest_sha256 and the like."""
        seeds = [int(seed) for seed in self.seeds if seed.isdigit()] or list(range(len(self.seeds)))
        values: dict[str, Any] = {"method": self.method, "protocol": self.protocol}
        values |= {"enrolment": self.enrolment, "seeds": seeds}
        for name, score in self.scores.items():
            values |= fields(name, score)
        values |= {"utterances": self.utterances, "speakers": self.speakers}
        values |= {"against": self.against, "difference": None}
        if (gap := self.differences.get("uar")) is not None:
            values |= fields("difference", gap) | {"difference_p": gap.p}
        if self.calibration_error is not None:
            values["calibration_error"] = self.calibration_error
        if self.speaker_dependent:
            values["speaker_dependent"] = True
        return values | extra

    def pictures(self) -> dict[str, bytes]:
        """Draws the figures: name -> PNG."""
        stamp = STAMP if self.speaker_dependent else None
        drawn = {}
        if self.confusion is not None:
            title = "Confusion on the test part"
            drawn["confusion"] = plots.confusion(self.confusion, self.labels, title=title, stamp=stamp)
        if self.ratings is not None:
            drawn["agreement"] = plots.agreement(*self.ratings, self.labels, stamp=stamp)
        if self.calibration is not None:
            how: dict[str, Any] = {"error": self.calibration_error, "title": "Reliability", "stamp": stamp}
            drawn["reliability"] = plots.reliability(*self.calibration, **how)
        if self.curve is not None:
            drawn["enrolment"] = plots.enrolment_curve(*curve_lines(self.curve), stamp=stamp)
        return {name: plots.to_png(figure) for name, figure in drawn.items()}

    def _page(self, pictures: Mapping[str, bytes]) -> Page:
        """Lays the report out; a picture that is not given is a name alone."""

        def picture(name: str) -> Picture:
            return Picture(f"{name}.png", ALTS[name], pictures.get(name, b""))

        blocks: list[Block] = []
        if self.speaker_dependent:
            text = "test speakers are in training; compare nothing here with speaker-independent numbers."
            blocks.append(Text(f"{STAMP}: {text}", alarm=True))
        blocks += [Text(_what(self)), _scores(self), *map(Text, self.notes)]
        blocks += [*_against(self), *_published(self)]
        if self.per_class is not None:
            classes = _table(self, self.per_class, f"Percent over all folds together, {_enrolled(self)}")
            blocks += [Heading("Classes"), classes, picture("confusion")]
        if self.ratings is not None:
            blocks.append(picture("agreement"))
        if self.curve is not None:
            blocks += [Heading("Enrolment"), _curve(self, self.curve), picture("enrolment")]
        if self.calibration is not None:
            error = f"Expected calibration error {percent(self.calibration_error)} %"
            words = f"{error} (15 equal bins, mean over seeds; the figure holds all seeds)."
            blocks += [Heading("Calibration"), Text(words), picture("reliability")]
        return Page(f"{self.method} on {self.protocol}", [*blocks, *_by_group(self)])


def _enrolled(report: Report) -> str:
    if report.enrolment == 0:
        return "no enrolment utterances"
    number = "all other" if report.enrolment == "all" else str(report.enrolment)
    return f"{number} unlabelled enrolment utterances a speaker, not scored"


def _marked(report: Report, caption: str) -> str:
    return f"{STAMP}: {caption}" if report.speaker_dependent else caption


def _many(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def _what(report: Report) -> str:
    ways = {
        "mean": ", each fold scored by itself, then averaged",
        "pooled": ", the folds' predictions scored together",
    }
    of = f"{len(report.labels)} {'classes' if report.ratings is None else 'dimensions'}"
    folds = _many(report.folds, "fold") + (ways[report.average] if report.folds > 1 else "")
    seeds = f"{_many(len(report.seeds), 'seed')} ({', '.join(report.seeds)})"
    return (
        f"{report.utterances:,} test utterances of {_many(report.speakers, 'speaker')}, {of}, {folds}; "
        f"{seeds}, averaged; {_enrolled(report)}."
    )


def _titles(report: Report) -> dict[str, str]:
    metrics = metrics_of(() if report.ratings is None else report.labels)
    return {name: metric.title for name, metric in metrics.items()}


def _scores(report: Report) -> Table:
    write, unit = (percent, "Percent, with") if report.ratings is None else (decimal, "With")
    rows = [[_titles(report)[name], write(*score)] for name, score in report.scores.items()]
    caption = f"{unit} the 95 % interval over speakers; {_enrolled(report)}"
    return Table(["score", "value"], rows, _marked(report, caption))


def _against(report: Report) -> list[Block]:
    if not report.differences:
        return []
    rows = []
    for name, (value, low, high, p) in report.differences.items():
        plain = report.ratings is None
        gap = points(value, low, high) if plain else decimal(value, low, high, sign=True)
        rows.append([_titles(report)[name], gap, "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"])
    unit = "Points above" if report.ratings is None else "Above"
    caption = f"{unit} {report.against}, on the same utterances and the same drawn speakers"
    table = Table(["score", "difference", "two-sided p"], rows, _marked(report, caption))
    return [Heading(f"Against {report.against}"), table]


def _published(report: Report) -> list[Block]:
    if not report.published:
        return []
    ours: list[list[str]] = []
    apart: list[list[str]] = []
    for entry in report.published:
        name = same_metric(entry.get("metric", "")) if entry.get("comparable", True) else None
        system, share = str(entry.get("system", "")), entry.get("value")
        if share is not None:  # papers give fractions or percent
            share = float(share) / (100 if float(share) > 1 else 1)
        tail = [str(entry.get("source") or ""), str(entry.get("caveat") or "")]
        if name not in report.scores:
            apart.append([system, str(entry.get("metric", "")), percent(share), *tail])
        else:
            score = report.scores[name].value
            gap = points(None if share is None else score - share)
            ours.append([system, METRICS[name].title, percent(share), percent(score), gap, *tail])
    found: list[Block] = [Heading("Published figures of this protocol")]
    if ours:
        heads = ["system", "score", "published", "ours", "ours minus published", "source", "caveat"]
        right = [False, False, True, True, True, False, False]
        caption = _marked(report, f"Percent; ours with {_enrolled(report)}")
        found.append(Table(heads, ours, caption, right))
    if apart:
        caption = "Not comparable with the scores above: another metric, or epochs chosen on test"
        heads = ["system", "metric", "published", "source", "caveat"]
        found.append(Table(heads, apart, caption, [False, False, True, False, False]))
    return found


def _curve(report: Report, curve: pd.DataFrame) -> Table:
    caption = (
        "UAR in percent. Enrolled are so many utterances a speaker, or all of the one emotion where there "
        "are fewer; they are not scored, and a speaker who has no more than those is left out"
    )
    if "difference" in curve:
        caption += "; each difference is over the utterances that both score"
    names = {"enrolment": "enrolled", "utterances": "scored", "difference": "points above none"}
    return _table(report, curve.drop(columns="p", errors="ignore"), caption, names=names)


def _by_group(report: Report) -> list[Block]:
    if report.per_speaker is None:
        return []
    found: list[Block] = [Heading("Groups of speakers")]
    if report.per_gender is not None:
        found.append(_table(report, report.per_gender, f"By gender, {_enrolled(report)}"))
    if report.per_fold is not None and report.folds > 1:
        found.append(_table(report, report.per_fold, f"By fold, {_enrolled(report)}"))
    worst = report.per_speaker.sort_values("uar", kind="stable").drop(columns="speakers")
    caption = f"By speaker, the lowest UAR first, {_enrolled(report)}"
    return [*found, _table(report, worst, caption, folded=True)]


def _table(
    report: Report,
    frame: pd.DataFrame,
    caption: str,
    folded: bool = False,
    names: Mapping[str, str] | None = None,
) -> Table:
    """Writes a table of scores and their intervals; ``names`` are heads that differ from the columns."""
    titles = {**_titles(report), **(names or {})}
    columns = [str(name) for name in frame if not str(name).endswith(("_low", "_high"))]
    rows = [[_cell(entry, name) for name in columns] for entry in frame.to_dict("records")]
    heads = [titles.get(name, name) for name in columns]
    return Table(heads, rows, _marked(report, caption), folded=folded)


def _cell(entry: Mapping[Any, Any], name: str) -> str:
    if name in METRICS or name in EMPTY:
        ends = [entry.get(name), entry.get(f"{name}_low"), entry.get(f"{name}_high")]
        known = [None if end is None or end != end else float(end) for end in ends]
        return points(*known) if name == "difference" else percent(*known) or EMPTY.get(name, "")
    return f"{entry[name]:,}" if isinstance(entry[name], int) else str(entry[name])
