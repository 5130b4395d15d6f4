"""How sure a score is: a bootstrap over speakers, and paired differences between two runs.

Utterances of one speaker resemble each other, so speakers, not utterances, are drawn with replacement. A draw
is a count a speaker; the scores of all draws come from one matrix product of the counts with the confusion
matrices of the speakers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.errors import ManifestError, unknown
from affetto.evaluation.metrics import SCORES, Score, codes
from affetto.evaluation.predictions import check_predictions, scored

AVERAGES = ("mean", "pooled")
COVERAGE = 0.95


class Interval(NamedTuple):
    """A score with the ends of its 95 % interval; the ends are None where there is only one speaker."""

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A paired difference with its 95 % interval and two-sided p; None where there is only one speaker."""

    value: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Tally:
    """Confusion counts of the test rows, one matrix for each (seed, fold, speaker) that has any.

    Attributes:
        labels: the K labels.
        speakers: every speaker, sorted.
        seeds: (C,) seed number of each of the C matrices, counted from zero; ``folds`` and ``speaker``
            likewise.
        folds: (C,) fold number.
        speaker: (C,) place in ``speakers``.
        counts: (C, K, K) utterances; or other sums that add up over rows, (C, ...), with a score of its own.
    """

    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    seeds: NDArray[np.int64]
    folds: NDArray[np.int64]
    speaker: NDArray[np.int64]
    counts: NDArray[np.float64]


def tally(rows: pd.DataFrame, labels: Sequence[str], speakers: Sequence[str] | None = None) -> Tally:
    """Counts checked test rows by seed, fold and speaker; ``speakers`` fixes their order."""
    names, cell, cells = _cells(rows, speakers)
    size = len(labels)
    pairs = codes(rows["truth"].to_numpy(), labels) * size + codes(rows["label"].to_numpy(), labels)
    counts = np.bincount(cell * size * size + pairs, minlength=len(cells[0]) * size * size)
    return Tally(tuple(labels), names, *cells, counts.reshape(-1, size, size).astype(np.float64))


def tally_sums(
    rows: pd.DataFrame,
    labels: Sequence[str],
    values: NDArray[np.float64],
    speakers: Sequence[str] | None = None,
) -> Tally:
    """Sums what each checked test row has, ``values (N, ...)``, by seed, fold and speaker."""
    names, cell, cells = _cells(rows, speakers)
    order = np.argsort(cell, kind="stable")
    firsts = np.searchsorted(cell[order], np.arange(len(cells[0])))
    return Tally(tuple(labels), names, *cells, np.add.reduceat(values[order], firsts, axis=0))


def _cells(
    rows: pd.DataFrame, speakers: Sequence[str] | None
) -> tuple[
    tuple[str, ...], NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
]:
    """Returns the speakers, the cell that each row is in, and seed, fold and speaker of each cell."""
    names = tuple(speakers) if speakers is not None else tuple(sorted(rows["speaker"].unique()))
    place = {name: number for number, name in enumerate(names)}
    speaker = rows["speaker"].map(place).to_numpy(dtype=np.int64)
    seeds = np.unique(rows["seed"].to_numpy(), return_inverse=True)[1]
    fold_names, folds = np.unique(rows["fold"].to_numpy(), return_inverse=True)
    cells, cell = np.unique((seeds * len(fold_names) + folds) * len(names) + speaker, return_inverse=True)
    groups, speaker_of = np.divmod(cells, len(names))
    return names, cell, (*np.divmod(groups, len(fold_names)), speaker_of)


def draw_speakers(speakers: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Draws speakers with replacement: (1 + draws, speakers) counts, the data as they are first."""
    if draws < 1:
        raise ManifestError(f"got {draws} bootstrap draws; at least 1 is needed")
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=draws)
    return np.vstack([np.ones((1, speakers)), drawn])


def score_draws(
    counted: Tally, weights: NDArray[np.float64], metric: str | Score = "uar", average: str = "mean"
) -> NDArray[np.float64]:
    """Scores every draw at once.

    Args:
        counted: the confusion counts.
        weights: (N, speakers) how often each speaker is drawn.
        metric: ``"uar"``, ``"war"``, ``"macro_f1"``, or a function over the sums, (N, K, K) or others.
        average: ``"pooled"`` adds the matrices of the folds first; ``"mean"`` scores each fold and averages.

    Returns:
        (N,) scores, the mean over seeds in each draw.

    With ``"mean"`` a fold counts as often as its speakers were drawn, on average: with all speakers drawn
    once this is the plain mean, and with one speaker a fold it is the bootstrap over folds. A seed of which a
    draw holds no row is left out of that draw.
    """
    score = _score(metric)
    if average not in AVERAGES:
        raise ManifestError(unknown("way to average folds", average, AVERAGES))
    folds = counted.folds if average == "mean" else np.zeros_like(counted.folds)
    shape = counted.counts.shape[1:]
    results = []
    for seed in np.unique(counted.seeds):
        total, mass = np.zeros(len(weights)), np.zeros(len(weights))
        for fold in np.unique(folds[counted.seeds == seed]):
            chosen = (counted.seeds == seed) & (folds == fold)
            drawn = weights[:, counted.speaker[chosen]]
            sums = drawn @ counted.counts[chosen].reshape(int(chosen.sum()), -1)
            share = drawn.mean(axis=1)
            values = score(sums.reshape(-1, *shape))
            known = np.isfinite(values)  # a fold of which nobody was drawn has no score
            total += np.where(known, share * values, 0.0)
            mass += np.where(known, share, 0.0)
        results.append(_divide(total, mass))
    stacked = np.stack(results)
    known = np.isfinite(stacked)
    return _divide(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def interval(counted: Tally, metric: str | Score, average: str, draws: int = 2000, seed: int = 0) -> Interval:
    """Scores a tally and gives the percentile interval of its speaker bootstrap."""
    values = score_draws(counted, draw_speakers(len(counted.speakers), draws, seed), metric, average)
    return Interval(float(values[0]), *_ends(values[1:], len(counted.speakers)))


def speaker_bootstrap(
    table: pd.DataFrame,
    metric: str | Score = "uar",
    average: str = "mean",
    draws: int = 2000,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> Interval:
    """Scores the test rows of a predictions table, with an interval over speakers.

    Args:
        table: a predictions table.
        metric: ``"uar"``, ``"war"``, ``"macro_f1"``, or a function over (N, K, K) confusion matrices.
        average: how folds are averaged, ``"mean"`` or ``"pooled"``.
        draws: how often the speakers are drawn.
        seed: of the draws; the same seed gives the same interval.
        labels: the classes; None takes them from the table.

    Raises:
        ManifestError: for a table that cannot be scored.

    With few speakers (ten in EMO-DB) percentile intervals are known to be somewhat too narrow.
    """
    checked, names = check_predictions(table, labels)
    return interval(tally(scored(checked), names), metric, average, draws, seed)


def speaker_mean(values: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> Interval:
    """Averages a figure over speakers, with an interval over them.

    Args:
        values: (S,) one figure a speaker, e.g. a paired difference; NaN for a speaker without one.
        draws: how often the speakers are drawn.
        seed: of the draws.

    Returns:
        NaN where no speaker has a figure.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(float("nan"), None, None)
    means = draw_speakers(len(known), draws, seed) @ known / len(known)
    return Interval(float(means[0]), *_ends(means[1:], len(known)))


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str | Score = "uar",
    average: str = "mean",
    draws: int = 2000,
    seed: int = 0,
    only_shared: bool = False,
    labels: Sequence[str] | None = None,
) -> Difference:
    """First score minus second, over the same utterances and the same drawn speakers.

    Args:
        first: a predictions table.
        second: the table it is compared with; its seeds may be others, or fewer.
        metric: as in :func:`speaker_bootstrap`, like ``average``, ``draws``, ``seed`` and ``labels``.
        average: how folds are averaged.
        draws: how often the speakers are drawn.
        seed: of the draws.
        only_shared: score only the utterances that both tables test, instead of refusing tables that differ;
            for enrolment, whose own utterances are not scored.
        labels: the classes.

    Returns:
        The difference, its interval, and p: twice the smaller share of draws on one side of zero, at most 1;
        never zero,
        for one is added to each count (Davison and Hinkley 1997, section 4.2).

    Raises:
        ManifestError: names the utterances, speakers, labels or true labels in which the tables differ.
    """
    ours, names = check_predictions(first, labels)
    theirs, other_names = check_predictions(second, labels)
    if set(names) != set(other_names):
        raise ManifestError(
            f"the tables have different labels: {', '.join(names)} against {', '.join(other_names)}"
        )
    left, right = same_utterances(scored(ours), scored(theirs), only_shared)
    speakers = sorted({*left["speaker"], *right["speaker"]})
    weights = draw_speakers(len(speakers), draws, seed)
    return difference(tally(left, names, speakers), tally(right, names, speakers), weights, metric, average)


def difference(
    first: Tally, second: Tally, weights: NDArray[np.float64], metric: str | Score, average: str
) -> Difference:
    """First tally's score minus the second's, over the same draws ``weights`` of the same speakers."""
    gaps = score_draws(first, weights, metric, average) - score_draws(second, weights, metric, average)
    low, high = _ends(gaps[1:], len(first.speakers))
    if low is None:
        return Difference(float(gaps[0]), None, None, None)
    tail = min(int((gaps[1:] <= 0).sum()), int((gaps[1:] >= 0).sum()))
    return Difference(float(gaps[0]), low, high, min(1.0, 2 * (tail + 1) / len(gaps)))


def same_utterances(
    left: pd.DataFrame, right: pd.DataFrame, only_shared: bool, alike: Sequence[str] = ("speaker", "truth")
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the test rows of two tables that test the same utterances, with equal columns ``alike``.

    Raises:
        ManifestError: names the utterances that one alone tests, or in which the columns differ.
    """
    names = ["fold", "key"]
    if set(left["seed"]) == set(right["seed"]):  # random enrolment may test other utterances with every seed
        names = ["seed", *names]
    ours, theirs = (pd.MultiIndex.from_frame(table[names].astype(str)) for table in (left, right))
    common = set(ours) & set(theirs)
    if "seed" not in names:  # every seed of either table must test them
        for table, index in ((left, ours), (right, theirs)):
            times = index.value_counts()
            common &= set(times.index[times == table["seed"].nunique()])
    if only_shared:
        left, right = left[ours.isin(common)], right[theirs.isin(common)]
        if left.empty:
            raise ManifestError("the two tables test no utterance in common")
    elif not (ours.isin(common).all() and theirs.isin(common).all()):
        sides = [
            f"{which} {_some(sorted({str(entry[-1]) for entry in index[~index.isin(common)]}))}"
            for which, index in (("only the first tests", ours), ("only the second tests", theirs))
            if not index.isin(common).all()
        ]
        raise ManifestError(
            f"the tables do not test the same utterances in the same folds: {'; '.join(sides)}; "
            "pass only_shared=True to compare what both test"
        )
    for column in alike:
        merged = left.drop_duplicates("key").merge(right.drop_duplicates("key"), on="key")
        differ = merged.loc[merged[f"{column}_x"] != merged[f"{column}_y"], "key"]
        if len(differ):
            raise ManifestError(f"the tables give another {column} for {_some(sorted(differ))}")
    return left, right


def _some(keys: Sequence[str]) -> str:
    return f"{len(keys)} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"


def _divide(total: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    quotient = np.full(total.shape, np.nan)
    np.divide(total, mass, out=quotient, where=mass > 0)
    return quotient


def _ends(values: NDArray[np.float64], speakers: int) -> tuple[float | None, float | None]:
    if speakers < 2:
        return None, None
    low, high = np.quantile(values[np.isfinite(values)], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _score(metric: str | Score) -> Score:
    if not isinstance(metric, str):
        return metric
    if metric not in SCORES:
        raise ManifestError(unknown("metric", metric, SCORES))
    return SCORES[metric]
