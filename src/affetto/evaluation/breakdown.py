"""A score taken apart: by class, speaker, gender and fold, and by confidence."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.evaluation.bootstrap import interval, tally
from affetto.evaluation.metrics import (
    Reliability,
    expected_calibration_error,
    precision_of,
    recall_of,
    reliability,
    uar_of,
    war_of,
)


def per_class(rows: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """A row a class over all folds together: ``class, utterances, recall, precision``, the mean over seeds.

    ``recall`` is None for a class without test rows, ``precision`` for one that was never predicted.
    """
    counts = _by_seed(rows, labels)
    keys = rows.groupby("truth")["key"].nunique()
    return pd.DataFrame(
        {
            "class": labels,
            "utterances": [int(keys.get(label, 0)) for label in labels],
            "recall": _known_mean(recall_of(counts)),
            "precision": _known_mean(precision_of(counts)),
        }
    )


def per_group(rows: pd.DataFrame, labels: tuple[str, ...], column: str) -> pd.DataFrame:
    """A row a value of ``column``: that value, ``speakers, utterances, uar, war``, the mean over seeds."""
    found = []
    for value, group in rows.groupby(column):
        counts = _by_seed(group, labels)
        entry = _sizes(column, value, group)
        found.append(entry | {"uar": float(uar_of(counts).mean()), "war": float(war_of(counts).mean())})
    return pd.DataFrame(found)


def per_gender(
    rows: pd.DataFrame, labels: tuple[str, ...], average: str, draws: int, seed: int
) -> pd.DataFrame | None:
    """A row a gender with intervals over its speakers; None where no row has a gender."""
    if "gender" not in rows or rows["gender"].isna().all():
        return None
    found = []
    for value, group in rows.groupby(rows["gender"].fillna("not known").astype(str)):
        entry = _sizes("gender", value, group)
        for metric in ("uar", "war"):
            score = interval(tally(group, labels), metric, average, draws, seed)
            entry |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
        found.append(entry)
    return pd.DataFrame(found)


def calibration(rows: pd.DataFrame) -> tuple[Reliability | None, float | None]:
    """Confidence bins over all rows, and the calibration error (mean over seeds); None without confidence."""
    if "confidence" not in rows or rows["confidence"].isna().any():
        return None, None
    right = rows["truth"] == rows["label"]
    errors = [
        expected_calibration_error(group["confidence"], right[group.index])
        for _, group in rows.groupby("seed")
    ]
    return reliability(rows["confidence"], right), float(np.mean(errors))


def _sizes(column: str, value: object, group: pd.DataFrame) -> dict[str, object]:
    speakers, utterances = group["speaker"].nunique(), group["key"].nunique()
    return {column: str(value), "speakers": speakers, "utterances": utterances}


def _by_seed(rows: pd.DataFrame, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Confusion over all folds and speakers, a matrix a seed: (seeds, K, K)."""
    counted = tally(rows, labels)
    total = np.zeros((int(counted.seeds.max()) + 1, len(labels), len(labels)))
    np.add.at(total, counted.seeds, counted.counts)
    return total


def _known_mean(values: NDArray[np.float64]) -> list[float | None]:
    """Mean over seeds of (seeds, K), None where no seed has a value."""
    columns = [column[np.isfinite(column)] for column in values.T]
    return [float(column.mean()) if column.size else None for column in columns]
