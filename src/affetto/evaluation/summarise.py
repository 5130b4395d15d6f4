"""Makes the report of a predictions table: scores by class, speaker, gender and fold, and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.evaluation.bootstrap import (
    fields,
    interval,
    paired_differences,
    same_utterances,
    score_draws,
    tallies,
    tally,
)
from affetto.evaluation.enrolment import normal_count
from affetto.evaluation.guard import check_leaks
from affetto.evaluation.metrics import confidence_bins, metrics_of, precision_of, ratings, recall_of
from affetto.evaluation.predictions import check_dimensions, check_predictions, one_value, scored
from affetto.evaluation.report import Report


def taken_apart(
    rows: pd.DataFrame, labels: tuple[str, ...], average: str, draws: int, seed: int
) -> dict[str, Any]:
    """Takes test rows apart, by the names of a report; the calibration error is the mean over seeds."""
    parts: dict[str, Any] = {
        "confusion": tally(rows, labels).counts.sum(axis=0) / rows["seed"].nunique(),
        "per_class": per_class(rows, labels),
        "per_speaker": per_group(rows, labels, "speaker"),
        "per_fold": per_group(rows, labels, "fold"),
    }
    if "gender" in rows and rows["gender"].notna().any():
        genders = rows.assign(gender=rows["gender"].fillna("not known").astype(str))
        parts["per_gender"] = per_group(genders, labels, "gender", average, draws, seed)
    if "confidence" in rows and rows["confidence"].notna().all():
        right = rows["truth"] == rows["label"]
        bins = [confidence_bins(own["confidence"], right[own.index]) for _, own in rows.groupby("seed")]
        parts["calibration"] = confidence_bins(rows["confidence"], right)
        parts["calibration_error"] = float(np.mean([each.error for each in bins]))
    return parts


def rated(rows: pd.DataFrame, dimensions: Sequence[str], *_: object) -> dict[str, Any]:
    """The raters' and the predicted values of the first seed, (N, K) each."""
    return {"ratings": ratings(rows[rows["seed"] == rows["seed"].iloc[0]], dimensions)}


def per_class(rows: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """A row a class over all folds together: ``class, recall, precision, utterances``, the mean over seeds.

    ``recall`` is None for a class without test rows, ``precision`` for one that was never predicted.
    """
    counted = tally(rows, labels)
    matrices = np.zeros((int(counted.seeds.max()) + 1, len(labels), len(labels)))
    np.add.at(matrices, counted.seeds, counted.counts)
    keys = rows.groupby("truth")["key"].nunique()
    return pd.DataFrame(
        {
            "class": labels,
            "recall": _known_mean(recall_of(matrices)),
            "precision": _known_mean(precision_of(matrices)),
            "utterances": [int(keys.get(label, 0)) for label in labels],
        }
    )


def per_group(
    rows: pd.DataFrame,
    labels: tuple[str, ...],
    column: str,
    average: str = "pooled",
    draws: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a value of ``column``: that value, ``speakers, utterances`` and every metric that there is.

    With ``draws`` each metric M has its interval over speakers, ``M_low, M_high``.
    """
    found = []
    for value, group in rows.groupby(column):
        entry: dict[str, Any] = {column: str(value), "speakers": group["speaker"].nunique()}
        entry["utterances"] = group["key"].nunique()
        for name, counted in tallies(group, labels, metrics_of()).items():
            score = metrics_of()[name].score
            if draws:
                entry |= fields(name, interval(counted, score, average, draws, seed))
            else:
                once = np.ones((1, len(counted.speakers)))
                entry[name] = float(score_draws(counted, once, score, average)[0])
        found.append(entry)
    return pd.DataFrame(found)


def _known_mean(values: NDArray[np.float64]) -> list[float | None]:
    """Mean over seeds of (seeds, K), None where no seed has a value."""
    columns = [column[np.isfinite(column)] for column in values.T]
    return [float(column.mean()) if column.size else None for column in columns]


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
        predictions: the table, see :mod:`affetto.evaluation.predictions`; of one method and one enrolment.
        protocol: ``name``, ``labels`` or ``dimensions``, ``average``, ``published``, ``caveats`` and
            ``speaker_dependent``; each may be missing.
        meta: what the run says about itself (see :mod:`affetto.evaluation.guard`).
        method: name of the run; None takes the column ``method``.
        against: predictions of another run on the same utterances, for a paired test.
        against_name: its name; None takes its column ``method``.
        only_shared: compare on the utterances that both test.
        curve: enrolment curve (see :func:`affetto.evaluation.enrolment.enrolment_scores`).
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        LeakError: when a test speaker was seen with labels, or something was chosen on test.
        ManifestError: when the table cannot be scored, or does not fit ``against``.
    """
    meta, average = dict(meta or {}), str(protocol.get("average") or "mean")
    dependent = bool(meta.get("speaker_dependent") or protocol.get("speaker_dependent"))
    table, labels = _checked(predictions, protocol)
    notes = [*check_leaks(table, meta, dependent), *map(str, protocol.get("caveats") or ())]
    rows = scored(table)
    metrics = metrics_of(protocol.get("dimensions") or ())
    how = (average, draws, seed)
    counted = tallies(rows, labels, metrics).items()
    scores = {name: interval(each, metrics[name].score, *how) for name, each in counted}
    parts = (rated if protocol.get("dimensions") else taken_apart)(rows, labels, *how)
    if against is not None:
        parts["against"] = against_name or one_value(against, "method", "the other run")
        left, right = same_utterances(rows, scored(_checked(against, protocol, labels)[0]), only_shared)
        parts["differences"] = paired_differences(left, right, labels, metrics, *how)
    return Report(
        method=method or one_value(table, "method", "this run"),
        protocol=str(protocol.get("name") or "no named protocol"),
        labels=labels,
        average=average,
        enrolment=normal_count(one_value(table, "enrolment", "0")),
        speaker_dependent=dependent,
        scores=scores,
        published=tuple(dict(entry) for entry in protocol.get("published") or ()),
        curve=curve,
        notes=(*notes, *_gaps(parts, labels, rows["speaker"].nunique())),
        **_facts(rows),
        **parts,
    )


def _facts(rows: pd.DataFrame) -> dict[str, Any]:
    counts = {"folds": "fold", "speakers": "speaker", "utterances": "key"}
    seeds = tuple(str(value) for value in sorted(rows["seed"].unique()))
    return {"seeds": seeds, **{name: rows[column].nunique() for name, column in counts.items()}}


def _checked(
    table: pd.DataFrame, protocol: Mapping[str, Any], labels: Sequence[str] | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if dimensions := protocol.get("dimensions"):
        return check_dimensions(table, dimensions), tuple(dimensions)
    return check_predictions(table, labels or protocol.get("labels"))


def _gaps(parts: Mapping[str, Any], labels: Sequence[str], speakers: int) -> list[str]:
    """Notes on what cannot be given."""
    notes = []
    if "ratings" in parts:
        notes = [
            f"{name} is the same in all test rows: its concordance is 0 by definition, and lowers the mean."
            for name, column in zip(labels, parts["ratings"][0].T, strict=True)
            if np.ptp(column) == 0
        ]
    else:
        empty = parts["per_class"]["class"][parts["per_class"]["utterances"] == 0].tolist()
        if empty:
            subject = f"Classes {', '.join(empty)} have" if len(empty) > 1 else f"Class {empty[0]} has"
            notes.append(
                f"{subject} no test rows: recall is not defined there, "
                f"and UAR is the mean over the other {len(labels) - len(empty)}."
            )
    if speakers < 2:
        notes.append("All test rows are of one speaker: an interval over speakers cannot be given.")
    return notes
