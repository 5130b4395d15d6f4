"""Uncertainty of scores: a bootstrap over speakers, and paired differences between two runs.

Utterances of one speaker resemble each other, so speakers, not utterances, are drawn with replacement. A draw
is a count for each speaker; the scores of all draws come from one matrix product of the counts with the sums
of the speakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.errors import ManifestError, some, unknown
from affetto.evaluation.metrics import Metric, Score, confusion_sums, mean_known, metrics_of, share, uar_of
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


def fields(name: str, score: Interval | Difference) -> dict[str, float | None]:
    """A score as fields of a row: ``NAME, NAME_low, NAME_high``."""
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}


@dataclass(frozen=True)
class Tally:
    """Sums over test rows, one for each of the C (seed, fold, speaker) that has any."""

    speakers: tuple[str, ...]
    seeds: NDArray[np.int64]  # (C,) counted from zero, like folds
    folds: NDArray[np.int64]
    speaker: NDArray[np.int64]  # (C,) place in speakers
    counts: NDArray[np.float64]  # (C, ...) such as a confusion matrix each


def tally(rows: pd.DataFrame, labels: Sequence[str]) -> Tally:
    """Counts checked test rows by seed, fold and speaker, a confusion matrix each."""
    return tally_sums(rows, confusion_sums(rows, labels))


def tally_sums(
    rows: pd.DataFrame, values: NDArray[np.float64], speakers: Sequence[str] | None = None
) -> Tally:
    """Sums what each test row has, ``values (N, ...)``, by seed, fold and speaker; rows of NaN are left out.

    ``speakers`` fixes their order; None takes those of the rows that are left.
    """
    known = ~np.isnan(values.reshape(len(values), -1).sum(axis=1))
    rows, values = rows[known], values[known]
    names = tuple(speakers) if speakers is not None else tuple(sorted(rows["speaker"].unique()))
    place = {name: number for number, name in enumerate(names)}
    speaker = rows["speaker"].map(place).to_numpy(dtype=np.int64)
    seeds = np.unique(rows["seed"].to_numpy(), return_inverse=True)[1]
    fold_names, folds = np.unique(rows["fold"].to_numpy(), return_inverse=True)
    # One number for each (seed, fold, speaker).
    cells, cell = np.unique((seeds * len(fold_names) + folds) * len(names) + speaker, return_inverse=True)
    order = np.argsort(cell, kind="stable")
    sums = np.add.reduceat(values[order], np.searchsorted(cell[order], np.arange(len(cells))), axis=0)
    groups, speaker_of = np.divmod(cells, len(names))
    return Tally(names, *np.divmod(groups, len(fold_names)), speaker_of, sums)


def tallies(
    rows: pd.DataFrame,
    labels: Sequence[str],
    metrics: Mapping[str, Metric],
    speakers: Sequence[str] | None = None,
) -> dict[str, Tally]:
    """Sums checked test rows for each of the metrics that they allow."""
    made = {sums: sums(rows, labels) for sums in {metric.sums for metric in metrics.values()}}
    counted = {sums: tally_sums(rows, each, speakers) for sums, each in made.items() if each is not None}
    return {name: counted[metric.sums] for name, metric in metrics.items() if metric.sums in counted}


def draw_speakers(speakers: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Draws speakers with replacement: (1 + draws, speakers) counts, the data as they are first."""
    if draws < 1:
        raise ManifestError(f"got {draws} bootstrap draws; at least 1 is needed")
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=draws)
    return np.vstack([np.ones((1, speakers)), drawn])


def score_draws(
    counted: Tally, weights: NDArray[np.float64], score: Score = uar_of, average: str = "mean"
) -> NDArray[np.float64]:
    """Scores every draw at once, the mean over seeds in each: ``(N, speakers)`` weights -> (N,).

    ``average`` "pooled" adds the sums of the folds first; "mean" scores each fold and averages. With "mean" a
    fold counts as often as its speakers were drawn, on average. With all speakers drawn once this is the
    plain mean; with one speaker a fold it is the bootstrap over folds.
    """
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
            weight = drawn.mean(axis=1)
            values = score(sums.reshape(-1, *shape))
            known = np.isfinite(values)  # a fold of which no speaker was drawn has no score
            total += np.where(known, weight * values, 0.0)
            mass += np.where(known, weight, 0.0)
        results.append(share(total, mass))
    return mean_known(np.stack(results, axis=-1))


def interval(counted: Tally, score: Score, average: str, draws: int = 2000, seed: int = 0) -> Interval:
    """Scores a tally and gives the percentile interval of its speaker bootstrap."""
    values = score_draws(counted, draw_speakers(len(counted.speakers), draws, seed), score, average)
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
        metric: its name, such as ``"uar"``, or a function over (N, K, K) confusion matrices.
        average: how folds are averaged, ``"mean"`` or ``"pooled"``.
        draws: how often the speakers are drawn.
        seed: of the draws; the same seed gives the same interval.
        labels: the classes; None takes them from the table.

    Raises:
        ManifestError: for a table that cannot be scored.

    With few speakers (ten in EMO-DB) percentile intervals are known to be somewhat too narrow.
    """
    checked, names = check_predictions(table, labels)
    chosen = _metric(metric)
    if not (found := tallies(scored(checked), names, {"": chosen})):
        raise _lacking(chosen)
    return interval(found[""], chosen.score, average, draws, seed)


def speaker_mean(values: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> Interval:
    """Averages (S,) figures, one a speaker, with an interval over speakers; NaN for a speaker without one."""
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
        only_shared: score only the utterances that both test, instead of refusing tables that differ.
        labels: the classes.

    Returns:
        The difference, its interval, and p: twice the smaller share of draws on one side of zero, at most 1;
        never zero, for one is added to each count (Davison and Hinkley 1997, section 4.2).

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
    chosen = _metric(metric)
    if not (found := paired_differences(left, right, names, {"": chosen}, average, draws, seed)):
        raise _lacking(chosen)
    return found[""]


def paired_differences(
    left: pd.DataFrame,
    right: pd.DataFrame,
    labels: Sequence[str],
    metrics: Mapping[str, Metric],
    average: str,
    draws: int,
    seed: int,
) -> dict[str, Difference]:
    """First score minus second over the same drawn speakers, for each metric that both tables allow."""
    speakers = sorted({*left["speaker"], *right["speaker"]})
    weights = draw_speakers(len(speakers), draws, seed)
    ours, theirs = (tallies(rows, labels, metrics, speakers) for rows in (left, right))
    found = {}
    for name in [name for name in ours if name in theirs]:
        scores = [score_draws(side[name], weights, metrics[name].score, average) for side in (ours, theirs)]
        gap, drawn = float(scores[0][0] - scores[1][0]), scores[0][1:] - scores[1][1:]
        low, high = _ends(drawn, len(speakers))
        tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum())) + 1
        p = None if low is None else min(1.0, 2 * tail / (1 + len(drawn)))
        found[name] = Difference(gap, low, high, p)
    return found


def same_utterances(
    left: pd.DataFrame, right: pd.DataFrame, only_shared: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the test rows of two tables that test the same utterances, of equal speakers and truth."""
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
    alone = {"first": ours[~ours.isin(common)], "second": theirs[~theirs.isin(common)]}
    if not only_shared and any(map(len, alone.values())):
        keys = {which: sorted({str(entry[-1]) for entry in index}) for which, index in alone.items()}
        sides = [f"only the {which} tests {len(own)} ({some(own, 3)})" for which, own in keys.items() if own]
        raise ManifestError(
            f"the tables do not test the same utterances in the same folds: {'; '.join(sides)}; "
            "pass only_shared=True to compare what both test"
        )
    truths = [name for name in left if str(name).startswith("truth") and name in right]
    for column in ("speaker", *truths):
        merged = left.drop_duplicates("key").merge(right.drop_duplicates("key"), on="key")
        differ = merged.loc[merged[f"{column}_x"] != merged[f"{column}_y"], "key"]
        if len(differ):
            raise ManifestError(f"the tables give another {column} for {len(differ)} ({some(differ, 3)})")
    return left, right


def _ends(values: NDArray[np.float64], speakers: int) -> tuple[float | None, float | None]:
    if speakers < 2:
        return None, None
    low, high = np.quantile(values[np.isfinite(values)], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _metric(metric: str | Score) -> Metric:
    """Returns the metric of this name, or a function as one."""
    if not isinstance(metric, str):
        return Metric("", "", metric)
    if metric not in metrics_of():
        raise ManifestError(unknown("metric", metric, metrics_of()))
    return metrics_of()[metric]


def _lacking(metric: Metric) -> ManifestError:
    return ManifestError(f"the predictions table lacks what {metric.title} needs")
