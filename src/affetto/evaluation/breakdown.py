"""Scores by class, speaker, gender and fold, and calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.evaluation.bootstrap import fields, interval, score_draws, tallies, tally
from affetto.evaluation.concordance import ratings
from affetto.evaluation.metrics import confidence_bins, metrics_of, precision_of, recall_of


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
