from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

HEAD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
)
TRAIN = (
    '1,"That\x92s it, really.",Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\n'
    "2,Oh my God!,The Interviewer,joy,positive,0,1,8,21,,\n"
)
TEST = "1,Why?,Rachel,surprise,negative,0,0,3,19,,\n"


def tree(root: Path, record: Callable[..., Path]) -> None:
    (root / "train").mkdir()
    for name, lines in (
        ("train/train", TRAIN),
        ("dev", "1,No.,Ross,anger,negative,3,2,1,1,,\n"),
        ("test", TEST),
    ):
        (root / f"{name}_sent_emo.csv").write_text(HEAD + lines, encoding="utf-8")
    for name in ("dia0_utt0", "dia0_utt1"):
        record(root / "train" / "train_splits" / f"{name}.wav")
    record(root / "dev_splits_complete" / "dia3_utt2.flac")
    record(root / "output_repeated_splits_test" / "dia0_utt0.wav")
    record(root / "output_repeated_splits_test" / "final_videos_testdia0_utt0.wav")


def test_columns_come_from_the_table_of_the_split(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("meld", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    rows = {row["key"]: row for row in manifest.table.to_dict("records")}
    assert set(rows) == {"train_dia0_utt0", "train_dia0_utt1", "dev_dia3_utt2", "test_dia0_utt0"}
    first = rows["train_dia0_utt0"]
    assert (first["speaker"], first["gender"], first["emotion"]) == ("Chandler", "male", "neutral")
    assert (first["text"], first["language"]) == ("That’s it, really.", "en")
    assert (first["session"], first["split"]) == ("train_dia0", "train")
    guest = rows["train_dia0_utt1"]
    assert (guest["speaker"], guest["gender"], guest["emotion"]) == ("The Interviewer", None, "happiness")
    asked = rows["test_dia0_utt0"]
    assert (asked["speaker"], asked["gender"], asked["emotion"]) == ("Rachel", "female", "surprise")
    assert (asked["session"], rows["dev_dia3_utt2"]["split"]) == ("test_dia0", "dev")


def test_defects_are_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "dev_sent_emo.csv").unlink()
    (tmp_path / "output_repeated_splits_test").rename(tmp_path / "clips")
    train = tmp_path / "train" / "train_splits"
    (train / "dia0_utt0.wav").write_bytes(b"no sound")
    for name in ("holiday", "dia66_utt9", "dia5_utt5"):
        record(train / f"{name}.wav")
    (tmp_path / "train" / "train_sent_emo.csv").write_text(
        HEAD + TRAIN + "3,Hm.,Joey,bored,neutral,5,5,1,1,,\n", encoding="utf-8"
    )
    manifest = scan("meld", tmp_path)
    rows = {row["key"]: row for row in manifest.table.to_dict("records")}
    assert set(rows) == {"train_dia0_utt1", "dev_dia3_utt2"}
    assert [rows["dev_dia3_utt2"][name] for name in ("speaker", "emotion")] == [None, None]
    assert manifest.notes == ("dev_sent_emo.csv is absent: no labels for dev",)
    errors = dict(manifest.errors)
    assert "unknown emotion 'bored'" in errors["train/train_splits/dia5_utt5.wav"]
    assert errors["train/train_splits/dia66_utt9.wav"] == "is not in train_sent_emo.csv"
    assert "in no folder that says" in errors["clips/dia0_utt0.wav"]
    assert errors["*_sent_emo.csv"] == "1 of its 4 recordings are absent: test_dia0_utt0"
    assert {"train/train_splits/dia0_utt0.wav", "train/train_splits/holiday.wav"} < set(errors)
    assert len(errors) == 6


def test_absent_or_strange_tables_are_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "test_sent_emo.csv").write_text("Utterance,Speaker\nWhy?,Rachel\n")
    with pytest.raises(
        ManifestError, match=r"test_sent_emo\.csv lacks the columns Dialogue_ID, Emotion, Utterance_ID"
    ):
        scan("meld", tmp_path)
    for path in list(tmp_path.rglob("*.csv")):
        path.unlink()
    with pytest.raises(ManifestError, match=r"none of train_sent_emo\.csv"):
        scan("meld", tmp_path)
