"""The fast bootstrap against loops that draw speakers and copy their rows."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from synthetic import LABELS, predictions

from affetto.errors import ManifestError
from affetto.evaluation import paired_difference, speaker_bootstrap
from affetto.evaluation.bootstrap import (
    draw_speakers,
    interval,
    score_draws,
    speaker_mean,
    tally,
)
from affetto.evaluation.metrics import uar_of

pytestmark = pytest.mark.filterwarnings("ignore:y_pred contains")


def naive(table: pd.DataFrame, speakers: Sequence[str], counts: Sequence[float], average: str) -> float:
    """UAR of one draw: every drawn speaker's rows are copied as often as he or she was drawn."""
    times = {speaker: int(count) for speaker, count in zip(speakers, counts, strict=True)}
    scores = []
    for _, seed in table[table["part"] == "test"].groupby("seed"):
        parts: list[Any] = [fold for _, fold in seed.groupby("fold")] if average == "mean" else [seed]
        total = weight = 0.0
        for part in parts:
            members = sorted(set(part["speaker"]))
            copies = [part[part["speaker"] == name] for name in members for _ in range(times[name])]
            if copies:
                rows = pd.concat(copies)
                share = sum(times[name] for name in members) / len(members)
                total += share * balanced_accuracy_score(rows["truth"], rows["label"])
                weight += share
        scores.append(total / weight)
    return float(np.mean(scores))


@pytest.mark.parametrize("average", ["mean", "pooled"])
@pytest.mark.parametrize("folds", [3, 12])
def test_draws_equal_copied_rows(average: str, folds: int) -> None:
    table = predictions(speakers=12, each=6, folds=folds)
    rows = table[table["part"] == "test"]
    weights = draw_speakers(12, 8, seed=3)
    counted = tally(rows, LABELS)
    expected = [naive(table, counted.speakers, counts, average) for counts in weights]
    np.testing.assert_allclose(score_draws(counted, weights, uar_of, average), expected)


def test_the_value_is_the_mean_of_folds_and_seeds() -> None:
    table = predictions()
    rows = table[table["part"] == "test"]
    folds = [
        balanced_accuracy_score(part["truth"], part["label"]) for _, part in rows.groupby(["seed", "fold"])
    ]
    result = speaker_bootstrap(table, "uar", "mean", draws=200)
    assert result.value == pytest.approx(np.mean(folds))
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.value < result.high


def test_the_same_seed_gives_the_same_interval() -> None:
    table = predictions()
    assert speaker_bootstrap(table, seed=4) == speaker_bootstrap(table, seed=4)
    assert speaker_bootstrap(table, seed=4) != speaker_bootstrap(table, seed=5)


def test_order_of_rows_changes_nothing() -> None:
    table = predictions()
    mixed = table.sample(frac=1, random_state=1)
    assert speaker_bootstrap(table) == pytest.approx(speaker_bootstrap(mixed))


def test_interval_is_as_wide_as_theory_says() -> None:
    """Sixty speakers who are all right or all wrong: the spread of a share of sixty."""
    table = predictions(speakers=60, folds=1, seeds=(0,))
    lucky = table["speaker"].str[1:].astype(int) < 30
    table["label"] = np.where(lucky, table["truth"], np.where(table["truth"] == "fear", "anger", "fear"))
    table["part"] = "test"
    result = speaker_bootstrap(table, "war", "pooled", draws=4000)
    assert result.value == 0.5
    assert result.low == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 60), abs=0.02)
    assert result.high == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 60), abs=0.02)


def test_two_thousand_draws_over_91_speakers_are_quick() -> None:
    table = predictions(speakers=91, each=20, folds=5, seeds=(0, 1, 2))
    counted = tally(table[table["part"] == "test"], LABELS)
    times = []
    for _ in range(3):
        begin = time.process_time()
        interval(counted, uar_of, "mean", 2000)
        times.append(time.process_time() - begin)
    assert min(times) < 0.2


def test_paired_difference_equals_copied_rows() -> None:
    ours, theirs = predictions(skill=0.9), predictions(skill=0.5, draw=1, seeds=(7,))
    result = paired_difference(ours, theirs, draws=20, seed=2)
    speakers = sorted(set(ours["speaker"]))
    gaps = [
        naive(ours, speakers, counts, "mean") - naive(theirs, speakers, counts, "mean")
        for counts in draw_speakers(12, 20, seed=2)
    ]
    low, high = np.quantile(gaps[1:], [0.025, 0.975])
    tail = min(sum(gap <= 0 for gap in gaps[1:]), sum(gap >= 0 for gap in gaps[1:]))
    assert result == pytest.approx((gaps[0], low, high, min(1, 2 * (tail + 1) / 21)))


def test_a_run_does_not_differ_from_itself_and_the_sign_turns() -> None:
    ours, theirs = predictions(skill=1.2), predictions(skill=0.2, draw=1)
    same = paired_difference(ours, ours, draws=100)
    assert same == (0, 0, 0, 1)
    forth, back = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert forth.value == pytest.approx(-back.value)
    assert forth.p == back.p == pytest.approx(2 / 2001)


def test_pairing_is_sharper_than_two_intervals() -> None:
    ours = predictions(speakers=30, skill=0.6)
    theirs = ours.copy()
    worse = theirs.index[(theirs["part"] == "test") & (theirs["label"] == theirs["truth"])][::10]
    theirs.loc[worse, "label"] = [LABELS[LABELS.index(name) - 1] for name in theirs.loc[worse, "truth"]]
    one, two = speaker_bootstrap(ours), speaker_bootstrap(theirs)
    gap = paired_difference(ours, theirs)
    assert one.low is not None
    assert two.high is not None
    assert one.low < two.high
    assert gap.low is not None
    assert gap.low > 0


def test_tables_that_differ_are_refused_by_name() -> None:
    ours = predictions()
    fewer = ours[ours["key"] != "s03-2"]
    with pytest.raises(ManifestError, match=r"only the first tests 1 \(s03-2\)"):
        paired_difference(ours, fewer)
    with pytest.raises(ManifestError, match=r"only the second tests 1 \(s03-2\)"):
        paired_difference(fewer, ours)
    other = ours.copy()
    other.loc[other["key"] == "s01-0", "truth"] = "fear"
    ours.loc[ours["key"] == "s01-0", "truth"] = "anger"
    with pytest.raises(ManifestError, match=r"another truth for 1 \(s01-0\)"):
        paired_difference(ours, other)
    other = ours.assign(speaker=ours["speaker"].replace("s05", "s99"))
    with pytest.raises(ManifestError, match="another speaker for 8"):
        paired_difference(ours, other)
    with pytest.raises(ManifestError, match="different labels"):
        paired_difference(ours, ours.rename(columns={"p_fear": "p_calm"}).replace("fear", "calm"))


@pytest.mark.parametrize("seeds", [(0, 1), (5,)])
def test_only_shared_compares_what_both_test(seeds: tuple[int, ...]) -> None:
    ours, theirs = predictions(skill=0.9), predictions(draw=1, seeds=seeds)
    enrolled = ours["key"].str.endswith("-0") & (ours["part"] == "test")
    ours.loc[enrolled, "part"] = "enrol"
    shared = paired_difference(ours, theirs, only_shared=True, draws=100)
    cut = paired_difference(ours, theirs[~theirs["key"].str.endswith("-0")], draws=100)
    assert shared == cut
    with pytest.raises(ManifestError, match="no utterance in common"):
        paired_difference(ours, theirs.assign(key="x" + theirs["key"]), only_shared=True)


def test_one_speaker_has_no_interval() -> None:
    table = predictions(speakers=1, folds=1)
    assert speaker_bootstrap(table)[1:] == (None, None)
    assert paired_difference(table, table)[1:] == (None, None, None)


def test_a_mean_over_speakers_has_the_interval_of_its_draws() -> None:
    values = np.array([0.1, np.nan, 0.4, 0.3, 0.9])
    known = values[np.isfinite(values)]
    found = speaker_mean(values, draws=500, seed=3)
    counts = np.random.default_rng(3).multinomial(4, np.full(4, 1 / 4), size=500)
    drawn = [np.repeat(known, times).mean() for times in counts]
    assert found.value == pytest.approx(known.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert speaker_mean(np.array([0.5, np.nan])) == (0.5, None, None)
    assert np.isnan(speaker_mean(np.array([np.nan])).value)


def test_unknown_metric_and_average() -> None:
    table = predictions()
    with pytest.raises(ManifestError, match="did you mean 'uar'"):
        speaker_bootstrap(table, "uarr")
    with pytest.raises(ManifestError, match="did you mean 'pooled'"):
        speaker_bootstrap(table, average="pool")
    with pytest.raises(ManifestError, match="0 bootstrap draws"):
        speaker_bootstrap(table, draws=0)
