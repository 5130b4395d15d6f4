"""The report of one run: scores with intervals, tables, figures, and the published figures beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto import plots
from affetto.evaluation.bootstrap import Difference, Interval, fields
from affetto.evaluation.enrolment import curve_lines, normal_count
from affetto.evaluation.guard import STAMP
from affetto.evaluation.metrics import METRICS, Reliability, metrics_of, same_metric
from affetto.pages import Block, Heading, Page, Picture, Table, Text, decimal, percent, points
from affetto.runs import write_json

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
        """Returns the report as Markdown; its pictures are files beside it (see :meth:`write`)."""
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
        values: dict[str, Any] = {
            "method": self.method,
            "protocol": self.protocol,
            "enrolment": self.enrolment,
            "seeds": [int(seed) for seed in self.seeds if seed.isdigit()] or list(range(len(self.seeds))),
        }
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
            drawn["reliability"] = plots.reliability(
                *self.calibration, error=self.calibration_error, title="Reliability", stamp=stamp
            )
        if self.curve is not None:
            drawn["enrolment"] = plots.enrolment_curve(*curve_lines(self.curve), stamp=stamp)
        return {name: plots.to_png(figure) for name, figure in drawn.items()}

    def _page(self, pictures: Mapping[str, bytes]) -> Page:
        """Lays the report out; a picture that is not given is a name alone."""
        blocks: list[Block] = []
        if self.speaker_dependent:
            text = "test speakers are in training; compare nothing here with speaker-independent numbers."
            blocks.append(Text(f"{STAMP}: {text}", alarm=True))
        blocks += [Text(_what(self)), _scores(self), *map(Text, self.notes)]
        blocks += [*_against(self), *_published(self)]
        if self.per_class is not None:
            blocks += [Heading("Classes"), _classes(self, self.per_class), _picture("confusion", pictures)]
        if self.ratings is not None:
            blocks.append(_picture("agreement", pictures))
        if self.curve is not None:
            blocks += [Heading("Enrolment"), _curve(self, self.curve), _picture("enrolment", pictures)]
        if self.calibration is not None:
            error = f"Expected calibration error {percent(self.calibration_error)} %"
            words = f"{error} (15 equal bins, mean over seeds; the figure holds all seeds)."
            blocks += [Heading("Calibration"), Text(words), _picture("reliability", pictures)]
        return Page(f"{self.method} on {self.protocol}", [*blocks, *_by_group(self)])


def _mark(report: Report) -> str:
    return f"{STAMP}: " if report.speaker_dependent else ""


def _enrolled(report: Report) -> str:
    if report.enrolment == 0:
        return "no enrolment utterances"
    number = "all other" if report.enrolment == "all" else str(report.enrolment)
    return f"{number} unlabelled enrolment utterances a speaker, not scored"


def _what(report: Report) -> str:
    seeds = f"{len(report.seeds)} seed{'s' * (len(report.seeds) != 1)} ({', '.join(report.seeds)})"
    ways = {
        "mean": "each fold scored by itself, then averaged",
        "pooled": "the folds' predictions scored together",
    }
    averaged = "" if report.folds == 1 else f", {ways[report.average]}"
    return (
        f"{report.utterances:,} test utterances of {report.speakers} speaker{'s' * (report.speakers != 1)}, "
        f"{len(report.labels)} {'classes' if report.ratings is None else 'dimensions'}, {report.folds} "
        f"fold{'s' * (report.folds != 1)}{averaged}; {seeds}, averaged; {_enrolled(report)}."
    )


def _scores(report: Report) -> Table:
    rows = [[_title(report, name), _score(report, score)] for name, score in report.scores.items()]
    unit = "Percent, with" if report.ratings is None else "With"
    caption = f"{_mark(report)}{unit} the 95 % interval over speakers; {_enrolled(report)}"
    return Table(["score", "value"], rows, caption, [False, True])


def _title(report: Report, name: str) -> str:
    return metrics_of(() if report.ratings is None else report.labels)[name].title


def _score(report: Report, score: Interval) -> str:
    return percent(*score) if report.ratings is None else decimal(*score)


def _against(report: Report) -> list[Block]:
    if not report.differences:
        return []
    rows = []
    for name, gap in report.differences.items():
        p = "" if gap.p is None else ("< 0.001" if gap.p < 0.001 else f"{gap.p:.3f}")
        ends = (gap.value, gap.low, gap.high)
        shown = points(*ends) if report.ratings is None else decimal(*ends, sign=True)
        rows.append([_title(report, name), shown, p])
    unit = "Points above" if report.ratings is None else "Above"
    caption = f"{_mark(report)}{unit} {report.against}, on the same utterances and the same drawn speakers"
    heads = ["score", "difference", "two-sided p"]
    return [Heading(f"Against {report.against}"), Table(heads, rows, caption, [False, True, True])]


def _published(report: Report) -> list[Block]:
    if not report.published:
        return []
    ours: list[list[str]] = []
    apart: list[list[str]] = []
    for entry in report.published:
        name = same_metric(entry.get("metric", "")) if entry.get("comparable", True) else None
        system, share = str(entry.get("system", "")), _fraction(entry.get("value"))
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
        found.append(Table(heads, ours, f"{_mark(report)}Percent; ours with {_enrolled(report)}", right))
    if apart:
        caption = "Not comparable with the scores above: another metric, or epochs chosen on test"
        heads = ["system", "metric", "published", "source", "caveat"]
        found.append(Table(heads, apart, caption, [False, False, True, False, False]))
    return found


def _classes(report: Report, per_class: pd.DataFrame) -> Table:
    rows = []
    for entry in per_class.to_dict("records"):
        recall = "no test rows" if entry["utterances"] == 0 else percent(entry["recall"])
        precision = percent(entry["precision"]) or "never given"
        rows.append([entry["class"], recall, precision, str(entry["utterances"])])
    caption = f"{_mark(report)}Percent over all folds together, {_enrolled(report)}"
    return Table(["class", "recall", "precision", "utterances"], rows, caption, [False, True, True, True])


def _curve(report: Report, curve: pd.DataFrame) -> Table:
    mixed = "mix" in curve and curve["mix"].astype(str).str.len().gt(0).any()
    gaps = "difference" in curve
    rows = []
    for entry in curve.to_dict("records"):
        line = [str(entry["mix"])] if mixed else []
        line += [str(normal_count(entry["enrolment"])), f"{entry['utterances']:,}"]
        line.append(percent(*_ends(entry, "uar")))
        rows.append(line + ([points(*_ends(entry, "difference"))] if gaps else []))
    heads = ["mix"] * bool(mixed) + ["enrolled", "scored", "UAR"] + ["points above none"] * gaps
    caption = (
        f"{_mark(report)}UAR in percent. Enrolled are so many utterances a speaker, or all of the one "
        "emotion where there are fewer; they are not scored, and a speaker who has no more is left out"
    )
    caption += "; each difference is over the utterances that both score" * gaps
    return Table(heads, rows, caption, [name != "mix" for name in heads])


def _by_group(report: Report) -> list[Block]:
    if report.per_speaker is None:
        return []
    found: list[Block] = [Heading("Groups of speakers")]
    if report.per_gender is not None:
        found.append(_groups(report.per_gender, f"{_mark(report)}By gender, {_enrolled(report)}"))
    if report.per_fold is not None and report.folds > 1:
        found.append(_groups(report.per_fold, f"{_mark(report)}By fold, {_enrolled(report)}"))
    worst = report.per_speaker.sort_values("uar", kind="stable").drop(columns="speakers")
    caption = f"{_mark(report)}By speaker, the lowest UAR first, {_enrolled(report)}"
    return [*found, _groups(worst, caption, folded=True)]


def _groups(table: pd.DataFrame, caption: str, folded: bool = False) -> Table:
    heads = [str(name) for name in table.columns if not str(name).endswith(("_low", "_high"))]
    rows: list[Sequence[str]] = [
        [percent(*_ends(entry, name)) if name in METRICS else str(entry[name]) for name in heads]
        for entry in table.to_dict("records")
    ]
    titles = [METRICS[name].title if name in METRICS else name for name in heads]
    return Table(titles, rows, caption, [False] + [True] * (len(heads) - 1), folded)


def _ends(entry: Mapping[Any, Any], name: str) -> list[float | None]:
    """Returns a value and the ends of its interval, None where a row has none."""
    ends = [entry.get(name), entry.get(f"{name}_low"), entry.get(f"{name}_high")]
    return [None if end is None or end != end else float(end) for end in ends]


def _picture(name: str, pictures: Mapping[str, bytes]) -> Picture:
    return Picture(f"{name}.png", ALTS[name], pictures.get(name, b""))


def _fraction(value: Any) -> float | None:
    """Reads a published value, which papers give as a fraction or in percent."""
    if value is None:
        return None
    number = float(value)
    return number / 100 if number > 1 else number
