"""The order of a report: which block stands where, and in which words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from affetto.evaluation.enrolment import normal_count
from affetto.evaluation.guard import STAMP
from affetto.evaluation.metrics import TITLES
from affetto.pages import Block, Heading, Picture, Table, Text, percent, points

if TYPE_CHECKING:
    from affetto.evaluation.report import Report

SPELLINGS = {
    "uar": ("uar", "ua", "unweighted average recall", "unweighted accuracy", "balanced accuracy"),
    "war": ("war", "wa", "acc", "accuracy", "weighted accuracy", "weighted average recall", "micro f1"),
    "macro_f1": ("macro f1", "f1 macro"),
    "votes_f1": ("macro f1 on votes",),
}
ALTS = {
    "confusion": "Confusion matrix: share of each true class that was given each label",
    "reliability": "Reliability: share of right predictions by confidence",
    "enrolment": "UAR against the number of enrolment utterances",
}


def blocks(report: "Report", pictures: Mapping[str, bytes]) -> list[Block]:
    """Lays out a report; ``pictures`` are its figures as PNG by name, empty where only their names matter."""
    mark = f"{STAMP}: " if report.speaker_dependent else ""
    found: list[Block] = []
    if report.speaker_dependent:
        text = "test speakers were heard in training; compare nothing here with speaker-independent numbers."
        found.append(Text(f"{STAMP}: {text}", alarm=True))
    found += [Text(_what(report)), _scores(report, mark)]
    found += [Text(note) for note in report.notes]
    found += _against(report, mark)
    found += _published(report, mark)
    found += [Heading("Classes"), _classes(report, mark), _picture("confusion", pictures)]
    if report.curve is not None:
        found += [Heading("Enrolment"), _curve(report.curve, mark), _picture("enrolment", pictures)]
    if report.calibration is not None:
        found += [Heading("Calibration"), Text(_calibration_words(report)), _picture("reliability", pictures)]
    found.append(Heading("Who is heard how well"))
    if report.per_gender is not None:
        found.append(_groups(report.per_gender, f"{mark}By gender, {_enrolled(report)}"))
    if len(report.per_fold) > 1:
        found.append(_groups(report.per_fold, f"{mark}By fold, {_enrolled(report)}"))
    worst = report.per_speaker.sort_values("uar", kind="stable")
    caption = f"{mark}By speaker, the hardest first, {_enrolled(report)}"
    found.append(_groups(worst.drop(columns="speakers"), caption, folded=True))
    return found


def same_metric(name: object) -> str | None:
    """Returns which of our scores a published metric is; None for one that is none of ours."""
    plain = " ".join(str(name).lower().replace("_", " ").replace("-", " ").split())
    return next((score for score, spellings in SPELLINGS.items() if plain in spellings), None)


def _what(report: "Report") -> str:
    seeds = f"{len(report.seeds)} seed{'s' * (len(report.seeds) != 1)} ({', '.join(report.seeds)})"
    folds = len(report.per_fold)
    ways = {
        "mean": "each fold scored by itself, then averaged",
        "pooled": "the folds' predictions scored together",
    }
    averaged = "" if folds == 1 else f", {ways[report.average]}"
    return (
        f"{report.utterances:,} test utterances of {report.speakers} speaker{'s' * (report.speakers != 1)}, "
        f"{len(report.labels)} classes, {folds} fold{'s' * (folds != 1)}{averaged}; "
        f"{seeds}, averaged; {_enrolled(report)}."
    )


def _enrolled(report: "Report") -> str:
    if report.enrolment == 0:
        return "no enrolment utterances"
    number = "all other" if report.enrolment == "all" else str(report.enrolment)
    return f"{number} unlabelled enrolment utterances a speaker, not scored"


def _scores(report: "Report", mark: str) -> Table:
    rows = [[TITLES[name], percent(*score)] for name, score in report.scores.items()]
    caption = f"{mark}Percent, with the 95 % interval over speakers; {_enrolled(report)}"
    return Table(["score", "value"], rows, caption, [False, True])


def _against(report: "Report", mark: str) -> list[Block]:
    if not report.differences:
        return []
    rows = []
    for name, gap in report.differences.items():
        p = "" if gap.p is None else ("< 0.001" if gap.p < 0.001 else f"{gap.p:.3f}")
        rows.append([TITLES[name], points(gap.value, gap.low, gap.high), p])
    caption = f"{mark}Points above {report.against}, on the same utterances and the same drawn speakers"
    heads = ["score", "difference", "two-sided p"]
    return [Heading(f"Against {report.against}"), Table(heads, rows, caption, [False, True, True])]


def _published(report: "Report", mark: str) -> list[Block]:
    if not report.published:
        return []
    ours: list[list[str]] = []
    apart: list[list[str]] = []
    for entry in report.published:
        name = same_metric(entry.get("metric", "")) if entry.get("comparable", True) else None
        share = _fraction(entry.get("value"))
        tail = [str(entry.get("source") or ""), str(entry.get("caveat") or "")]
        if name not in report.scores:
            apart.append([str(entry.get("system", "")), str(entry.get("metric", "")), percent(share), *tail])
        else:
            score = report.scores[name].value
            gap = points(None if share is None else score - share)
            ours.append(
                [str(entry.get("system", "")), TITLES[name], percent(share), percent(score), gap, *tail]
            )
    found: list[Block] = [Heading("Published figures of this protocol")]
    if ours:
        heads = ["system", "score", "published", "ours", "ours minus published", "source", "caveat"]
        right = [False, False, True, True, True, False, False]
        found.append(Table(heads, ours, f"{mark}Percent; ours with {_enrolled(report)}", right))
    if apart:
        caption = "Not comparable with the scores above: another metric, or epochs chosen on test"
        heads = ["system", "metric", "published", "source", "caveat"]
        found.append(Table(heads, apart, caption, [False, False, True, False, False]))
    return found


def _classes(report: "Report", mark: str) -> Table:
    rows = []
    for entry in report.per_class.to_dict("records"):
        empty = entry["utterances"] == 0
        recall = "no test rows" if empty else percent(entry["recall"])
        rows.append(
            [entry["class"], recall, percent(entry["precision"]) or "never given", str(entry["utterances"])]
        )
    caption = f"{mark}Percent over all folds together, {_enrolled(report)}"
    return Table(["class", "recall", "precision", "utterances"], rows, caption, [False, True, True, True])


def _curve(curve: pd.DataFrame, mark: str) -> Table:
    columns = [
        name for name in ("way", "mix") if name in curve and curve[name].astype(str).str.len().gt(0).any()
    ]
    gaps = "difference" in curve
    rows = []
    for entry in curve.to_dict("records"):
        line = ["" if entry[name] != entry[name] else str(entry[name]) for name in columns]
        line += [str(normal_count(entry["enrolment"])), f"{entry['utterances']:,}"]
        line.append(_interval(entry, "uar", percent))
        rows.append(line + ([_interval(entry, "difference", points)] if gaps else []))
    heads = [*columns, "enrolled", "scored", "UAR", *(["points above none"] if gaps else [])]
    caption = (
        f"{mark}UAR in percent. Enrolled are so many utterances a speaker, or all of the one emotion where "
        "there are fewer; they are not scored, and a speaker who has no more than those is left out"
    )
    caption += "; each difference is over the utterances that both score" * gaps
    return Table(heads, rows, caption, [name not in columns for name in heads])


def _interval(entry: Mapping[Any, Any], name: str, write: Any) -> str:
    ends = [entry.get(name), entry.get(f"{name}_low"), entry.get(f"{name}_high")]
    return str(write(*(None if end is None or end != end else float(end) for end in ends)))


def _calibration_words(report: "Report") -> str:
    error = percent(report.calibration_error)
    return (
        f"Expected calibration error {error} % (15 equal bins, mean over seeds; the figure holds all seeds)."
    )


def _groups(table: pd.DataFrame, caption: str, folded: bool = False) -> Table:
    heads = [name for name in table.columns if not str(name).endswith(("_low", "_high"))]
    rows: list[Sequence[str]] = []
    for entry in table.to_dict("records"):
        cells = []
        for name in heads:
            cells.append(_interval(entry, name, percent) if name in ("uar", "war") else str(entry[name]))
        rows.append(cells)
    return Table(
        [TITLES.get(name, name) for name in heads], rows, caption, [False] + [True] * (len(heads) - 1), folded
    )


def _picture(name: str, pictures: Mapping[str, bytes]) -> Picture:
    return Picture(f"{name}.png", ALTS[name], pictures.get(name, b""))


def _fraction(value: Any) -> float | None:
    """Reads a published value, which papers give as a fraction or in percent."""
    if value is None:
        return None
    number = float(value)
    return number / 100 if number > 1 else number
