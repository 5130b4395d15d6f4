"""The enrolment curve from predictions to figure."""

import numpy as np
import pandas as pd
import pytest
from synthetic import predictions

from affetto.errors import ManifestError
from affetto.evaluation import enrolment_scores, paired_difference, speaker_bootstrap
from affetto.evaluation.enrolment import curve_lines, normal_count


def settings() -> dict[tuple[object, str], pd.DataFrame]:
    found = {(0, "random"): predictions()}
    for number, (count, mix) in enumerate([(2, "random"), ("all", "random"), (2, "neutral")]):
        table = predictions(skill=0.6 + 0.2 * number, draw=number + 1).assign(enrolment=count, mix=mix)
        enrolled = table["key"].str.endswith(("-0", "-1")) & (table["part"] == "test")
        table.loc[enrolled, "part"] = "enrol"
        found[count, mix] = table
    return found


def test_each_setting_is_scored_and_compared_with_none_on_shared_utterances() -> None:
    tables = settings()
    curve = enrolment_scores(pd.concat(tables.values()), draws=100)
    assert [(row.enrolment, row.mix) for row in curve.itertuples()] == list(tables)
    assert list(curve["utterances"]) == [96, 72, 72, 72]
    for row, table in zip(curve.to_dict("records"), tables.values(), strict=True):
        assert row["uar"] == speaker_bootstrap(table, draws=100).value
        if row["enrolment"] != 0:
            gap = paired_difference(table, tables[0, "random"], only_shared=True, draws=100)
            assert (row["difference"], row["difference_low"], row["p"]) == (gap.value, gap.low, gap.p)
    assert np.isnan(curve["difference"][0])


def test_lines_hold_every_point_once() -> None:
    curve = enrolment_scores(pd.concat(settings().values()), draws=20)
    counts, lines = curve_lines(curve)
    assert counts == [0, 2, "all"]
    assert list(lines) == ["random", "neutral"]
    np.testing.assert_allclose(np.asarray(lines["random"])[:, 0], curve["uar"][:3])
    neutral = np.asarray(lines["neutral"])[:, 0]
    assert np.isnan(neutral[[0, 2]]).all()
    assert neutral[1] == curve["uar"][3]


def test_the_row_without_enrolment_is_a_point_of_the_first_line() -> None:
    curve = pd.DataFrame({"mix": ["", "anger"], "enrolment": [0, 10], "uar": [0.5, 0.4]})
    _, lines = curve_lines(curve)
    assert np.asarray(lines["anger"])[:, 0].tolist() == [0.5, 0.4]
    counts, lines = curve_lines(curve[:1])
    assert (counts, list(lines)) == ([0], ["random"])


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 0), ("none", 0), (float("nan"), 0), (10.0, 10), ("20", 20), ("All", "all")]
)
def test_numbers_of_utterances(given: object, expected: object) -> None:
    assert normal_count(given) == expected


def test_missing_columns_are_named() -> None:
    with pytest.raises(ManifestError, match="lacks the column enrolment"):
        enrolment_scores(predictions())
    with pytest.raises(ManifestError, match="lacks the column uar"):
        curve_lines(pd.DataFrame({"enrolment": [0]}))
