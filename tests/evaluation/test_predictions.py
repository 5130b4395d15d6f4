"""What is wrong with a predictions table is said by name."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic import LABELS, predictions

from affetto.errors import ManifestError
from affetto.evaluation import check_predictions, read_predictions, speaker_bootstrap
from affetto.evaluation.predictions import one_value, scored


@pytest.mark.parametrize("column", ["key", "speaker", "part", "fold", "seed", "truth", "label"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(ManifestError, match=f"lacks the column {column};"):
        check_predictions(predictions().drop(columns=column))


def test_probabilities_must_sum_to_one() -> None:
    table = predictions()
    table.loc[5, "p_fear"] += 0.1
    with pytest.raises(ManifestError, match=f"in 1 rows .* key '{table['key'][5]}' with sum 1.1"):
        check_predictions(table)
    table.loc[5, "p_fear"] = float("nan")
    with pytest.raises(ManifestError, match="sum to one"):
        check_predictions(table)
    table.loc[5, ["p_anger", "p_fear", "p_happiness", "p_neutral"]] = [-0.5, 1.5, 0, 0]
    with pytest.raises(ManifestError, match="sum to one"):
        check_predictions(table)


def test_p_columns_must_fit_the_labels() -> None:
    with pytest.raises(ManifestError, match="missing p_calm; surplus none"):
        check_predictions(predictions(), [*LABELS, "calm"])
    with pytest.raises(ManifestError, match="unknown label 'fear'"):
        check_predictions(predictions().drop(columns="p_fear"))


def test_an_empty_test_part_is_refused() -> None:
    table = predictions()
    with pytest.raises(ManifestError, match=r"no row whose part is 'test' \(it has dev, train\)"):
        speaker_bootstrap(table[table["part"] != "test"])
    with pytest.raises(ManifestError, match="no rows at all"):
        speaker_bootstrap(table.iloc[:0])


def test_other_bad_rows() -> None:
    table = predictions()
    with pytest.raises(ManifestError, match="did you mean 'test'"):
        check_predictions(table.assign(part="tets"))
    with pytest.raises(ManifestError, match="stands twice in fold 0, seed 0"):
        check_predictions(pd.concat([table, table.iloc[:1]]))
    holed = table.copy()
    holed.loc[3, "speaker"] = None
    with pytest.raises(
        ManifestError, match=f"1 predictions have no speaker, the first is key '{table['key'][3]}'"
    ):
        check_predictions(holed)


def test_labels_come_from_the_columns_or_the_rows() -> None:
    table = predictions()
    assert check_predictions(table)[1] == LABELS
    bare = table[["key", "speaker", "part", "fold", "seed", "truth", "label"]]
    assert check_predictions(bare)[1] == tuple(sorted(LABELS))
    assert check_predictions(bare, LABELS[::-1])[1] == LABELS[::-1]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_ids_survive_every_file_type(tmp_path: Path, suffix: str) -> None:
    table = predictions(speakers=4)
    table["speaker"] = table["speaker"].str[1:]  # "03" must stay "03"
    file = tmp_path / f"predictions{suffix}"
    if suffix == ".jsonl":
        table.to_json(file, orient="records", lines=True)
    elif suffix == ".parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, sep="," if suffix == ".csv" else "\t", index=False)
    read = read_predictions(file)
    assert set(check_predictions(read)[0]["speaker"]) == {"00", "01", "02", "03"}
    assert speaker_bootstrap(read) == pytest.approx(speaker_bootstrap(table))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read predictions"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match=r"unknown predictions file type '\.xlsx'"):
        read_predictions(tmp_path / "none.xlsx")


def test_speakers_of_two_corpora_are_kept_apart() -> None:
    table = predictions(speakers=4)
    second = table.assign(key="x" + table["key"], corpus="emodb")
    both = pd.concat([table.assign(corpus="ravdess"), second])
    checked, _ = check_predictions(both)
    assert checked["speaker"].nunique() == 8
    assert check_predictions(checked)[0]["speaker"].nunique() == 8
    assert len(scored(checked)) == 2 * len(scored(check_predictions(table)[0]))


def test_mixed_settings_are_refused() -> None:
    table = predictions()
    table["enrolment"] = [0, 10] * (len(table) // 2)
    with pytest.raises(ManifestError, match=r"mixes 2 values of enrolment \(0, 10\)"):
        one_value(table, "enrolment", "0")
    assert one_value(table.assign(enrolment=10.0), "enrolment", "0") == "10"
