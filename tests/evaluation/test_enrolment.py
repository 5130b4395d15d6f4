"""The enrolment curve from predictions to figure."""

import numpy as np
import pandas as pd
import pytest
from synthetic import predictions

from affetto.errors import ManifestError
from affetto.evaluation import enrolment_curve, paired_difference, speaker_bootstrap
from affetto.evaluation.enrolment import curve_panels, normal_count


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
    curve = enrolment_curve(pd.concat(tables.values()), draws=100)
    assert [(row.enrolment, row.mix) for row in curve.itertuples()] == list(tables)
    assert list(curve["utterances"]) == [96, 72, 72, 72]
    for row, table in zip(curve.to_dict("records"), tables.values(), strict=True):
        assert row["uar"] == speaker_bootstrap(table, draws=100).value
        if row["enrolment"] != 0:
            gap = paired_difference(table, tables[0, "random"], only_shared=True, draws=100)
            assert (row["difference"], row["difference_low"], row["p"]) == (gap.value, gap.low, gap.p)
    assert np.isnan(curve["difference"][0])


def test_panels_hold_every_point_once() -> None:
    curve = enrolment_curve(pd.concat(settings().values()), draws=20)
    counts, panels = curve_panels(curve)
    assert counts == [0, 2, "all"]
    assert {way: list(panel) for way, panel in panels.items()} == {"enrolment": ["random", "neutral"]}
    np.testing.assert_allclose(np.asarray(panels["enrolment"]["random"])[:, 0], curve["uar"][:3])
    neutral = np.asarray(panels["enrolment"]["neutral"])[:, 0]
    assert np.isnan(neutral[[0, 2]]).all()
    assert neutral[1] == curve["uar"][3]


def test_the_row_without_enrolment_is_in_every_panel() -> None:
    curve = pd.DataFrame(
        {
            "way": ["", "mean", "shrunk"],
            "mix": ["", "anger", "random"],
            "enrolment": [0, 10, 10],
            "uar": [0.5, 0.4, 0.6],
        }
    )
    _, panels = curve_panels(curve)
    assert np.asarray(panels["mean"]["anger"])[0, 0] == np.asarray(panels["shrunk"]["random"])[0, 0] == 0.5


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 0), ("none", 0), (float("nan"), 0), (10.0, 10), ("20", 20), ("All", "all")]
)
def test_numbers_of_utterances(given: object, expected: object) -> None:
    assert normal_count(given) == expected


def test_missing_columns_are_named() -> None:
    with pytest.raises(ManifestError, match="lacks the column enrolment"):
        enrolment_curve(predictions())
    with pytest.raises(ManifestError, match="lacks the column uar"):
        curve_panels(pd.DataFrame({"enrolment": [0]}))
