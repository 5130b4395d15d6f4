import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from affetto.evaluation.bootstrap import Interval, interval, tallies
from affetto.evaluation.metrics import METRICS

LABELS = ("anger", "neutral", "sadness")


def votes_f1(rows: pd.DataFrame) -> Interval | None:
    counted = tallies(rows, LABELS, {"votes_f1": METRICS["votes_f1"]})
    return interval(counted["votes_f1"], METRICS["votes_f1"].score, "mean") if counted else None


def table(rows: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    votes = generator.multinomial(6, [0.5, 0.3, 0.2], rows)
    shares = generator.dirichlet([1, 1, 1], rows)
    columns = {f"votes_{label}": votes[:, number] for number, label in enumerate(LABELS)}
    columns |= {f"p_{label}": shares[:, number] for number, label in enumerate(LABELS)}
    speakers = generator.integers(0, 8, rows).astype(str)
    return pd.DataFrame({"speaker": speakers, "seed": 0, "fold": 1, **columns})


def test_a_class_counts_where_more_than_its_share_voted_for_it() -> None:
    rows = table()
    votes = rows[[f"votes_{label}" for label in LABELS]].to_numpy() / 6
    told = rows[[f"p_{label}" for label in LABELS]].to_numpy()
    found = votes_f1(rows)
    assert found is not None
    assert (votes == 1 / 3).any()  # a share that is met exactly does not count
    assert found.value == pytest.approx(f1_score(votes > 1 / 3, told > 1 / 3, average="macro"))
    assert found.low is not None
    assert found.low < found.value


def test_utterances_without_votes_are_left_out() -> None:
    rows = table()
    silent = rows.assign(**{f"votes_{label}": np.nan for label in LABELS}).head(20)
    both = pd.concat([rows, silent], ignore_index=True)
    assert votes_f1(both).value == pytest.approx(votes_f1(rows).value)
    assert votes_f1(silent) is None
    assert votes_f1(rows.drop(columns=[f"votes_{label}" for label in LABELS])) is None
    assert votes_f1(rows.drop(columns=[f"p_{label}" for label in LABELS])) is None
