"""Scores under enrolment: against the number of enrolment utterances, and for skewed mixes."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from affetto.errors import ManifestError
from affetto.evaluation.bootstrap import fields, paired_difference, speaker_bootstrap

CURVE_COLUMNS = ("enrolment", "uar")
RANDOM = "random"


def enrolment_scores(
    predictions: pd.DataFrame,
    average: str = "mean",
    draws: int = 2000,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Scores each enrolment setting of a predictions table that holds several by UAR.

    Args:
        predictions: a predictions table with the column ``enrolment`` (0, 5, ..., "all"), and, where there
            are several, ``mix``: which utterances were enrolled ("random", "neutral only", ...).
        average: how folds are averaged.
        draws: how often speakers are drawn.
        seed: of the draws.
        labels: the classes.

    Returns:
        A row a setting: ``mix, enrolment, utterances, uar, uar_low, uar_high`` and, against no enrolment on
        the utterances that both score, ``difference, difference_low, difference_high, p``.

    Raises:
        ManifestError: when the column ``enrolment`` is missing.
    """
    if "enrolment" not in predictions:
        raise ManifestError("the predictions table lacks the column enrolment, so there is no curve to draw")
    table = predictions.assign(enrolment=[normal_count(value) for value in predictions["enrolment"]])
    table["mix"] = table["mix"].fillna(RANDOM) if "mix" in table else RANDOM
    plain = table[table["enrolment"] == 0]
    rows: list[dict[str, Any]] = []
    for (mix, count), group in table.groupby(["mix", "enrolment"], sort=False):
        score = speaker_bootstrap(group, "uar", average, draws, seed, labels)
        utterances = group.loc[group["part"] == "test", "key"].nunique()
        row: dict[str, Any] = {"mix": mix, "enrolment": count, "utterances": utterances}
        row |= fields("uar", score)
        if count != 0 and len(plain):
            gap = paired_difference(group, plain, "uar", average, draws, seed, True, labels)
            row |= fields("difference", gap) | {"p": gap.p}
        rows.append(row)
    return pd.DataFrame(rows)


def normal_count(value: Any) -> int | str:
    """Brings a number of enrolment utterances into one form: an int, or ``"all"``; none is 0."""
    if value is None or str(value).lower() in ("none", "nan", "<na>", ""):
        return 0
    text = str(value).removesuffix(".0")
    return int(text) if text.isdigit() else text.lower()


def curve_lines(curve: pd.DataFrame) -> tuple[list[int | str], dict[str, ArrayLike]]:
    """Lays a table of such scores out for :func:`affetto.plots.enrolment_curve`.

    Returns the N numbers of the axis in order ("all" last), and mix -> (N, 3) value, low, high, random first.
    The row without enrolment is a point of the first mix.
    """
    missing = [name for name in CURVE_COLUMNS if name not in curve]
    if missing:
        raise ManifestError(f"the enrolment table lacks the column {', '.join(missing)}")
    table = curve.assign(enrolment=[normal_count(value) for value in curve["enrolment"]])
    table["mix"] = table["mix"].replace("", None).fillna(RANDOM) if "mix" in table else RANDOM
    counts = sorted(set(table["enrolment"]), key=lambda count: (isinstance(count, str), count))
    enrolled = table["enrolment"] != 0
    mixes = sorted(table["mix"][enrolled].unique(), key=lambda mix: mix != RANDOM) or [RANDOM]
    table.loc[~enrolled, "mix"] = mixes[0]
    found = (
        table.set_index(["mix", "enrolment"]).reindex(columns=["uar", "uar_low", "uar_high"]).astype(float)
    )
    return counts, {mix: found.loc[mix].reindex(counts).to_numpy() for mix in mixes}
