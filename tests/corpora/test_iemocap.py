from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError
from affetto.protocols import load_protocol

IMPRO = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tNeutral; Anger;\t(tired)
C-F1:\tSadness;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[3.5000, 4.0000, 2.5000]
C-E2:\tExcited;\t()
C-E3:\tHappiness;\t()
C-E4:\tBaffled;\t()
A-M1:\tval 3; act 2; dom  2;\t()
"""
SCRIPT = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0000 - 2.0000]\tSes02M_script01_1b_FXX0\txxx\t[2.0000, 2.0000, 2.0000]
C-E1:\tNeutral;\t()
[3.0000 - 4.0000]\tSes02M_script01_1b_M000\tsad\t[2.0000, 2.0000, 2.0000]
"""


def tree(root: Path, record: Callable[..., Path]) -> None:
    files = {
        "Session1": ("Ses01F_impro01", IMPRO, ("F000", "M001")),
        "Session2": ("Ses02M_script01_1b", SCRIPT, ("FXX0", "M000")),
    }
    for session, (dialogue, evaluation, turns) in files.items():
        folder = root / session / "dialog"
        for name in ("EmoEvaluation/Categorical", "transcriptions", "wav"):
            (folder / name).mkdir(parents=True)
        (folder / "EmoEvaluation" / f"{dialogue}.txt").write_text(evaluation)
        (folder / "EmoEvaluation" / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07 [resource fork]")
        (folder / "transcriptions" / f"{dialogue}.txt").write_text(
            f"{dialogue}_{turns[0]} [006.29-008.23]: Excuse me.\n"
        )
        record(folder / "wav" / f"{dialogue}.wav")
        for turn in turns:
            record(root / session / "sentences" / "wav" / dialogue / f"{dialogue}_{turn}.wav")


def test_labels_talkers_and_votes(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("iemocap", tmp_path)
    assert manifest.errors == ()
    rows = {row["key"]: row for _, row in manifest.table.iterrows()}
    assert len(rows) == 4
    first = rows["Ses01F_impro01_F000"]
    assert (first["speaker"], first["gender"], first["session"]) == ("Ses01F", "female", "Ses01")
    assert (first["emotion"], first["style"], first["text"]) == ("neutral", "improvised", "Excuse me.")
    assert (first["valence"], first["arousal"], first["dominance"]) == (2.5, 2.5, 2.5)
    assert (first["votes_neutral"], first["votes_anger"], first["votes_sadness"]) == (2.5, 0.5, 0.0)
    talker = rows["Ses01F_impro01_M001"]
    assert (talker["speaker"], talker["gender"], talker["emotion"]) == ("Ses01M", "male", "excitement")
    assert (talker["votes_excitement"], talker["votes_happiness"], talker["votes_other"]) == (1, 1, 1)
    assert rows["Ses02M_script01_1b_FXX0"]["emotion"] is None
    assert rows["Ses02M_script01_1b_FXX0"]["speaker"] == "Ses02F"
    assert rows["Ses02M_script01_1b_M000"]["style"] == "scripted"


def test_the_four_class_protocol_merges_excitement_and_drops_the_rest(
    tmp_path: Path, record: Callable[..., Path]
) -> None:
    tree(tmp_path, record)
    table = scan("iemocap", tmp_path).table
    labels = [load_protocol("iemocap-4-loso5")._label(emotion) for emotion in table["emotion"]]
    assert labels == ["neutral", "happiness", None, "sadness"]


def test_the_folder_above_will_do(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path / "IEMOCAP_full_release", record)
    manifest = scan("iemocap", tmp_path)
    assert all(path.exists() for path in manifest.paths)


def test_a_recording_that_is_absent_or_broken_is_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    folder = tmp_path / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    (folder / "Ses01F_impro01_F000.wav").unlink()
    (folder / "Ses01F_impro01_M001.wav").write_bytes(b"cut")
    manifest = scan("iemocap", tmp_path)
    assert len(manifest) == 2
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert "recording is absent" in errors["Ses01F_impro01_F000"]
    assert set(errors) == {"Ses01F_impro01_F000", "Ses01F_impro01_M001"}


def test_a_folder_without_sessions_or_with_a_strange_label_is_refused(
    tmp_path: Path, record: Callable[..., Path]
) -> None:
    with pytest.raises(ManifestError, match="no folder Session1"):
        scan("iemocap", tmp_path)
    tree(tmp_path, record)
    path = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_text(IMPRO.replace("\tneu\t", "\tnue\t"))
    with pytest.raises(ManifestError, match="'nue'"):
        scan("iemocap", tmp_path)
