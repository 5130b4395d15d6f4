"""Runs that saw what they are tested on are refused."""

import pytest
from synthetic import predictions

from affetto.errors import LeakError
from affetto.evaluation import check_predictions
from affetto.evaluation.guard import check_leaks

TABLE, _ = check_predictions(predictions())


@pytest.mark.parametrize("chosen", ["test", "Test", ["dev", "test"], {"epoch": "dev", "temperature": "test"}])
def test_a_choice_on_test_is_refused_even_when_marked(chosen: object) -> None:
    with pytest.raises(LeakError, match=r"chosen on '[Tt]est'"):
        check_leaks(TABLE, {"chosen_on": chosen}, speaker_dependent=True)


@pytest.mark.parametrize("chosen", ["dev", ["dev", "train"], {"epoch": "dev", "settings": "fixed"}])
def test_a_choice_elsewhere_passes(chosen: object) -> None:
    assert check_leaks(TABLE, {"chosen_on": chosen}) == []


def test_an_unstated_choice_is_noted() -> None:
    assert "does not say" in check_leaks(TABLE, {})[0]


@pytest.mark.parametrize(("low", "high"), [("train", "test"), ("dev", "test"), ("train", "dev")])
def test_shared_speakers_are_refused_with_fold_and_name(low: str, high: str) -> None:
    table = TABLE.copy()
    moved = table.index[(table["part"] == high) & (table["fold"] == 1)][0]
    table.loc[moved, "part"] = low
    message = f"fold 1 has speaker {table.loc[moved, 'speaker']} in both {low} and {high}"
    with pytest.raises(LeakError, match=message):
        check_leaks(table, {"chosen_on": "dev"})
    notes = check_leaks(table, {"chosen_on": "dev"}, speaker_dependent=True)
    assert "speaker-dependent" in notes[0]


def test_speakers_seen_with_labels() -> None:
    rows = TABLE[TABLE["part"] == "test"]  # nothing of train in the table: only the run knows
    by_fold = {
        str(fold): sorted(set(TABLE["speaker"]) - set(part["speaker"])) for fold, part in rows.groupby("fold")
    }
    meta = {"chosen_on": "dev", "speakers_seen_with_labels": by_fold}
    assert check_leaks(rows, meta) == []
    by_fold["2"].append("s05")
    with pytest.raises(LeakError, match=r"^fold 2 tests speaker s05, whose labels"):
        check_leaks(rows, meta)
    with pytest.raises(LeakError, match="fold 0 tests speaker s03"):
        check_leaks(rows, meta | {"speakers_seen_with_labels": ["s03", "elsewhere"]})
    assert "not known" in check_leaks(rows, meta | {"speakers_seen_with_labels": "unknown"})[0]


def test_speakers_seen_without_labels_are_noted() -> None:
    meta = {"chosen_on": "dev", "speakers_seen_without_labels": ["s00", "s01"]}
    (note,) = check_leaks(TABLE, meta)
    assert note == "Seen without labels in pretraining: speakers s00, s01, tested in fold 0, 1."
    assert check_leaks(TABLE, meta | {"speakers_seen_without_labels": ["other"]}) == []
    assert "not known" in check_leaks(TABLE, meta | {"speakers_seen_without_labels": "unknown"})[0]


def test_labels_that_pretraining_had_are_noted_beside_a_share_of_them() -> None:
    meta = {"chosen_on": "dev", "speakers_pretrained_with_labels": {"1": ["a", "b"], "2": ["a"]}}
    assert check_leaks(TABLE, {**meta, "label_fraction": 1.0}) == []
    [note] = check_leaks(TABLE, {**meta, "label_fraction": 0.1})
    assert "all emotion labels of 2 speakers, beside the 10 %" in note
    assert check_leaks(TABLE, {"chosen_on": "dev", "label_fraction": 0.1}) == []
