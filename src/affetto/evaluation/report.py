"""The report of one run: scores with intervals, tables, figures, and the published figures beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto import pages as page
from affetto import plots
from affetto.evaluation import breakdown
from affetto.evaluation import report_page as layout
from affetto.evaluation.bootstrap import Difference, Interval, interval, paired_difference, tally
from affetto.evaluation.enrolment import curve_panels, normal_count
from affetto.evaluation.guard import STAMP, check_leaks
from affetto.evaluation.metrics import SCORES, TITLES, Reliability
from affetto.evaluation.predictions import check_predictions, one_value, scored
from affetto.evaluation.votes import votes_f1
from affetto.experiment.results import Result


@dataclass(frozen=True)
class Report:
    """What a run is worth on the test part of a protocol; made by :func:`summarise`.

    Attributes:
        method: name of the run.
        protocol: name of the protocol.
        labels: the K classes in order.
        average: how folds are averaged, "mean" or "pooled".
        enrolment: enrolment utterances a speaker, an int or "all".
        seeds: the seeds that were averaged.
        utterances: how many utterances were scored, each counted once.
        speakers: how many speakers they are from.
        speaker_dependent: speakers are shared between parts; stamped on everything.
        scores: "uar", "war", "macro_f1" -> value and interval; "votes_f1" too where raters voted.
        confusion: (K, K) counts over all folds, the mean over seeds.
        per_class: a row a class; ``per_speaker``, ``per_gender`` (None where no gender is known) and
            ``per_fold`` likewise.
        calibration: confidence bins, None where the table has no confidence.
        calibration_error: expected calibration error, the mean over seeds.
        against: name of the run it is compared with.
        differences: "uar", "war", "macro_f1" -> paired difference to that run.
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
    utterances: int
    speakers: int
    speaker_dependent: bool
    scores: dict[str, Interval]
    confusion: NDArray[np.float64]
    per_class: pd.DataFrame
    per_speaker: pd.DataFrame
    per_fold: pd.DataFrame
    per_gender: pd.DataFrame | None = None
    calibration: Reliability | None = None
    calibration_error: float | None = None
    against: str | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    published: tuple[Mapping[str, Any], ...] = ()
    curve: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def pictures(self) -> dict[str, bytes]:
        """Draws the figures: name -> PNG."""
        stamp = STAMP if self.speaker_dependent else None
        drawn = {
            "confusion": plots.confusion(
                self.confusion, self.labels, title="Confusion on the test part", stamp=stamp
            )
        }
        if self.calibration is not None:
            drawn["reliability"] = plots.reliability(
                *self.calibration,
                error=self.calibration_error,
                title="Is its confidence to be trusted?",
                stamp=stamp,
            )
        if self.curve is not None:
            counts, panels = curve_panels(self.curve)
            drawn["enrolment"] = plots.enrolment_curve(counts, panels, stamp=stamp)
        return {name: plots.to_png(figure) for name, figure in drawn.items()}

    def markdown(self) -> str:
        """Returns the report as Markdown; its pictures are files beside it (see :meth:`write`)."""
        return page.Page(f"{self.method} on {self.protocol}", layout.blocks(self, {})).markdown()

    def html(self) -> str:
        """Returns the report as one HTML page that needs no other file."""
        return page.Page(f"{self.method} on {self.protocol}", layout.blocks(self, self.pictures())).html()

    def row(self, **extra: Any) -> Result:
        """Returns the row for a results table; ``extra`` gives command, manifest_sha256 and the like."""
        gap = self.differences.get("uar")
        values: dict[str, Any] = {
            "method": self.method,
            "protocol": self.protocol,
            "enrolment": self.enrolment,
            "seeds": [int(seed) for seed in self.seeds if seed.isdigit()] or list(range(len(self.seeds))),
            "uar": self.scores["uar"].value,
            "uar_low": self.scores["uar"].low,
            "uar_high": self.scores["uar"].high,
            "war": self.scores["war"].value,
            "war_low": self.scores["war"].low,
            "war_high": self.scores["war"].high,
            "macro_f1": self.scores["macro_f1"].value,
            "utterances": self.utterances,
            "speakers": self.speakers,
        }
        if gap is not None:
            values |= {"against": self.against, "difference": gap.value, "difference_low": gap.low}
            values |= {"difference_high": gap.high, "difference_p": gap.p}
        if (votes := self.scores.get("votes_f1")) is not None:
            values |= {"votes_f1": votes.value, "votes_f1_low": votes.low, "votes_f1_high": votes.high}
        if self.calibration_error is not None:
            values["calibration_error"] = self.calibration_error
        if self.speaker_dependent:
            values["speaker_dependent"] = True
        return Result.model_validate(values | extra)

    def write(self, folder: str | Path) -> None:
        """Writes report.md, report.html and the figures into a folder."""
        blocks = layout.blocks(self, self.pictures())
        page.Page(f"{self.method} on {self.protocol}", blocks).write(Path(folder))


def summarise(
    predictions: pd.DataFrame,
    protocol: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    against: pd.DataFrame | None = None,
    against_name: str | None = None,
    only_shared: bool = False,
    curve: pd.DataFrame | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Report:
    """Scores a predictions table; only rows whose part is "test" count.

    Args:
        predictions: the table (see :mod:`affetto.evaluation.predictions`), of one method and one enrolment
            setting.
        protocol: fields of the protocol: ``name``, ``labels``, ``average`` ("mean" or "pooled"),
            ``published`` (dicts with system, metric, value, source, caveat), ``caveats`` and
            ``speaker_dependent``; each may be missing.
        meta: what the run says about itself (see :mod:`affetto.evaluation.guard`).
        method: name of the run; None takes the column ``method``.
        against: predictions of another run on the same utterances, for a paired test.
        against_name: its name; None takes its column ``method``.
        only_shared: compare on the utterances that both test.
        curve: enrolment curve (see :func:`affetto.evaluation.enrolment.enrolment_curve`).
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        LeakError: when a test speaker was seen with labels, or something was chosen on test.
        ManifestError: when the table cannot be scored, or does not fit ``against``.
    """
    known = dict(meta or {})
    dependent = bool(known.get("speaker_dependent") or protocol.get("speaker_dependent"))
    table, labels = check_predictions(predictions, protocol.get("labels"))
    name = method or one_value(table, "method", "this run")
    enrolment = normal_count(one_value(table, "enrolment", "0"))
    notes = [*check_leaks(table, known, dependent), *map(str, protocol.get("caveats") or ())]
    rows = scored(table)
    average = str(protocol.get("average") or "mean")
    counted = tally(rows, labels)
    scores = {metric: interval(counted, metric, average, draws, seed) for metric in SCORES}
    if (voted := votes_f1(rows, labels, average, draws, seed)) is not None:
        scores["votes_f1"] = voted
    differences: dict[str, Difference] = {}
    if against is not None:
        against_name = against_name or one_value(against, "method", "the other run")
        differences = {
            metric: paired_difference(table, against, metric, average, draws, seed, only_shared, labels)
            for metric in SCORES
        }
    classes = breakdown.per_class(rows, labels)
    bins, error = breakdown.calibration(rows)
    return Report(
        method=name,
        protocol=str(protocol.get("name") or "no named protocol"),
        labels=labels,
        average=average,
        enrolment=enrolment,
        seeds=tuple(str(value) for value in sorted(rows["seed"].unique())),
        utterances=rows["key"].nunique(),
        speakers=len(counted.speakers),
        speaker_dependent=dependent,
        scores=scores,
        confusion=counted.counts.sum(axis=0) / rows["seed"].nunique(),
        per_class=classes,
        per_speaker=breakdown.per_group(rows, labels, "speaker"),
        per_fold=breakdown.per_group(rows, labels, "fold"),
        per_gender=breakdown.per_gender(rows, labels, average, draws, seed),
        calibration=bins,
        calibration_error=error,
        against=against_name if against is not None else None,
        differences=differences,
        published=tuple(dict(entry) for entry in protocol.get("published") or ()),
        curve=curve,
        notes=(*notes, *_gaps(classes, len(counted.speakers))),
    )


def _gaps(per_class: pd.DataFrame, speakers: int) -> list[str]:
    empty = per_class.loc[per_class["utterances"] == 0, "class"].tolist()
    notes = []
    if empty:
        subject = f"Classes {', '.join(empty)} have" if len(empty) > 1 else f"Class {empty[0]} has"
        notes.append(
            f"{subject} no test rows: recall is not defined there, "
            f"and {TITLES['uar']} is the mean over the other {len(per_class) - len(empty)}."
        )
    if speakers < 2:
        notes.append("All test rows are of one speaker: an interval over speakers cannot be given.")
    return notes
