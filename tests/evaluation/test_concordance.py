import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affetto.errors import LeakError, ManifestError
from affetto.evaluation import summarise
from affetto.evaluation.metrics import ccc, mean_ccc

PROTOCOL = {"name": "p", "dimensions": ["valence", "arousal"], "average": "mean"}
META = {"chosen_on": "dev", "speakers_seen_with_labels": {"1": ["z"]}}


def table(noise: float, speakers: str = "abcd", seeds: int = 2) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        truths = np.random.default_rng(1)
        for speaker in speakers:
            for number in range(30):
                truth = truths.normal([3.0, 4.0], 1.0)
                told = truth + noise * generator.normal(size=2)
                rows.append((f"{speaker}{number}", speaker, seed, *truth, *told))
    names = ["key", "speaker", "seed", "truth_valence", "truth_arousal", "valence", "arousal"]
    return pd.DataFrame(rows, columns=names).assign(part="test", fold=1)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def test_concordance_is_lins() -> None:
    truth, told = np.random.default_rng(2).normal([1e4, 0.0], [1.0, 2.0], (2, 50, 2))
    found = ccc(truth, told)
    assert found == pytest.approx([by_hand(truth[:, 0], told[:, 0]), by_hand(truth[:, 1], told[:, 1])])
    assert mean_ccc(truth, told) == pytest.approx(found.mean())
    assert ccc(truth, truth) == pytest.approx([1, 1])
    assert ccc(truth, truth + 1)[0] < 0.8  # another level is no agreement, unlike in a correlation
    assert ccc(truth, np.full_like(truth, 3.0)) == pytest.approx([0, 0])


def test_a_report_has_intervals_over_speakers_and_paired_differences(tmp_path: Path) -> None:
    good, bad = table(0.3), table(2.0)
    report = summarise(good, PROTOCOL, META, method="good", against=bad, against_name="bad")
    first = good[good["seed"] == 0]
    second = good[good["seed"] == 1]
    expected = np.mean(
        [by_hand(own["truth_valence"].to_numpy(), own["valence"].to_numpy()) for own in (first, second)]
    )
    assert report.scores["ccc_valence"].value == pytest.approx(expected)
    low, high = report.scores["ccc_mean"].low, report.scores["ccc_mean"].high
    assert low is not None
    assert high is not None
    assert low < report.scores["ccc_mean"].value < high
    assert report.differences["ccc_arousal"].low > 0.2
    assert report.scores["error_valence"].value == pytest.approx(0.3, abs=0.05)
    report.write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "120 test utterances of 4 speakers" in text
    assert "| CCC, arousal | +0." in text
    assert json.loads((tmp_path / "report.json").read_text())["ccc_valence"] == pytest.approx(expected)
    assert (tmp_path / "agreement.png").stat().st_size > 5000


def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ManifestError, match="lacks truth_arousal"):
        summarise(table(1.0).drop(columns="truth_arousal"), PROTOCOL, META, method="m")
    broken = table(1.0)
    broken.loc[3, "valence"] = np.nan
    with pytest.raises(ManifestError, match="1 predictions are no numbers, the first of a3"):
        summarise(broken, PROTOCOL, META, method="m")
    with pytest.raises(ManifestError, match="stands twice"):
        summarise(pd.concat([table(1.0)] * 2), PROTOCOL, META, method="m")
    seen = {**META, "speakers_seen_with_labels": {"1": ["a"]}}
    with pytest.raises(LeakError):
        summarise(table(1.0), PROTOCOL, seen, method="m")
    other = table(1.0)
    other["truth_valence"] += 1
    with pytest.raises(ManifestError, match="another truth_valence"):
        summarise(table(1.0), PROTOCOL, META, method="m", against=other)


def test_one_speaker_has_no_interval() -> None:
    report = summarise(table(1.0, "a"), PROTOCOL, META, method="m")
    assert report.scores["ccc_valence"].low is None
    assert "one speaker" in report.markdown()
