"""What enrolment is worth: scores against the number of enrolment utterances and against skewed mixes."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from affetto.errors import ManifestError
from affetto.evaluation.bootstrap import paired_difference, speaker_bootstrap
from affetto.evaluation.metrics import Score

CURVE_COLUMNS = ("enrolment", "uar")
RANDOM = "random"
PANEL = "enrolment"


def enrolment_curve(
    predictions: pd.DataFrame,
    metric: str | Score = "uar",
    average: str = "mean",
    draws: int = 2000,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Scores each enrolment setting of a predictions table that holds several.

    Args:
        predictions: a predictions table with the column ``enrolment`` (0, 5, ..., "all"), and, where there
            are several, ``mix`` (which utterances were enrolled: "random", "neutral", ...) and ``way`` (what
            was done with them).
        metric: as in :func:`~affetto.evaluation.bootstrap.speaker_bootstrap`, like the rest.
        average: how folds are averaged.
        draws: how often speakers are drawn.
        seed: of the draws.
        labels: the classes.

    Returns:
        A row a setting: ``way, mix, enrolment, utterances, uar, uar_low, uar_high`` and, against no enrolment
        on the
        utterances that both score, ``difference, difference_low, difference_high, p``. The score is called
        ``uar`` whatever the metric is.

    Raises:
        ManifestError: when the column ``enrolment`` is missing.
    """
    if "enrolment" not in predictions:
        raise ManifestError("the predictions table lacks the column enrolment, so there is no curve to draw")
    table = predictions.copy()
    table["enrolment"] = [normal_count(value) for value in table["enrolment"]]
    for column, default in (("mix", RANDOM), ("way", "")):
        table[column] = table[column].fillna(default) if column in table else default
    plain = table[table["enrolment"] == 0]
    rows: list[dict[str, Any]] = []
    for (way, mix, count), group in table.groupby(["way", "mix", "enrolment"], sort=False):
        score = speaker_bootstrap(group, metric, average, draws, seed, labels)
        row: dict[str, Any] = {
            "way": way,
            "mix": mix,
            "enrolment": count,
            "utterances": group.loc[group["part"] == "test", "key"].nunique(),
            "uar": score.value,
            "uar_low": score.low,
            "uar_high": score.high,
        }
        base = plain[plain["way"] == way] if (plain["way"] == way).any() else plain
        if count != 0 and len(base):
            gap = paired_difference(
                group, base, metric, average, draws, seed, only_shared=True, labels=labels
            )
            row |= {
                "difference": gap.value,
                "difference_low": gap.low,
                "difference_high": gap.high,
                "p": gap.p,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def normal_count(value: Any) -> int | str:
    """Brings a number of enrolment utterances into one form: an int, or ``"all"``; none is 0."""
    if value is None or str(value).lower() in ("none", "nan", "<na>", ""):
        return 0
    text = str(value).removesuffix(".0")
    return int(text) if text.isdigit() else text.lower()


def curve_panels(
    curve: pd.DataFrame,
) -> tuple[list[int | str], Mapping[str, Mapping[str, ArrayLike]]]:
    """Lays a curve table out for :func:`affetto.plots.enrolment_curve`.

    Args:
        curve: columns ``enrolment`` and ``uar``, and where known ``uar_low``, ``uar_high``, ``mix``, ``way``.

    Returns:
        The numbers of the axis in order ("all" last), and panel -> mix -> (N, 3) value, low, high, random
        mixes first. A row without enrolment that belongs to no way of enrolling is put into every panel.

    Raises:
        ManifestError: names the missing column.
    """
    missing = [name for name in CURVE_COLUMNS if name not in curve]
    if missing:
        raise ManifestError(f"the enrolment table lacks the column {', '.join(missing)}")
    table = curve.assign(enrolment=[normal_count(value) for value in curve["enrolment"]])
    counts = sorted(set(table["enrolment"]), key=lambda count: (isinstance(count, str), count))
    plain = table["enrolment"] == 0
    panels: dict[str, dict[str, ArrayLike]] = {}
    for row in table[~plain].to_dict("records"):
        points = panels.setdefault(_text(row.get("way"), PANEL), {}).setdefault(
            _text(row.get("mix"), RANDOM), np.full((len(counts), 3), np.nan)
        )
        np.asarray(points)[counts.index(row["enrolment"])] = _ends(row)
    for row in table[plain].to_dict("records"):
        way = _text(row.get("way"), PANEL)
        for name in [way] if way in panels else list(panels) or [way]:
            panel = panels.setdefault(name, {})
            mix = RANDOM if RANDOM in panel or not panel else next(iter(panel))
            points = panel.setdefault(mix, np.full((len(counts), 3), np.nan))
            np.asarray(points)[counts.index(0)] = _ends(row)
    return counts, {
        name: dict(sorted(panel.items(), key=lambda item: item[0] != RANDOM))
        for name, panel in panels.items()
    }


def _ends(row: Mapping[Hashable, Any]) -> list[float]:
    return [
        np.nan if value is None else float(value)
        for value in (row["uar"], row.get("uar_low"), row.get("uar_high"))
    ]


def _text(value: Any, default: str) -> str:
    return default if value is None or value != value or value == "" else str(value)
