from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

EVALUATION = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.000000; V:3.500000; D:2.500000 ; N:4.000000;
P1-perceptual-evaluation; Neutral; Neutral; A:3.000000; V:4.000000; D:3.000000; N:4.000000;
P2-perceptual-evaluation; Neutral; Neutral,Calm; A:3.000000; V:3.000000; D:2.000000; N:4.000000;
P2-perceptual-evaluation; Neutral; Neutral,Calm; A:3.000000; V:3.000000; D:2.000000; N:4.000000;
P3-perceptual-evaluation; Sad; Depressed; A:3.000000; V:3.000000; D:2.000000; N:4.000000;

UTD-IMPROV-S02H-M03-R-FM01.avi; X; A:2.000000; V:3.000000; D:NaN ; N:NaN;
P1-perceptual-evaluation; Happy; Excited; A:2.000000; V:3.000000; D:NaN; N:NaN;
P2-perceptual-evaluation; Other; Proud; A:2.000000; V:3.000000; D:NaN; N:NaN;

"""
TALK, READ = "MSP-IMPROV-S01A-F01-P-FM01", "MSP-IMPROV-S02H-M03-R-FM01"


def tree(root: Path, record: Callable[..., Path]) -> None:
    (root / "All_human_transcriptions").mkdir()
    (root / "All_human_transcriptions" / f"{TALK}.txt").write_text("How are you?\n")
    (root / "Evalution.txt").write_text(EVALUATION)
    record(root / "Audio" / "session1" / "S01A" / "P" / f"{TALK}.wav")
    record(root / "Audio" / "session3" / "S02H" / "R" / f"{READ}.wav")


def test_labels_votes_and_actors(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("msp-improv", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    talk, read = manifest.table.to_dict("records")
    assert (talk["speaker"], talk["gender"], talk["session"]) == ("F01", "female", "01")
    assert (talk["emotion"], talk["intended"], talk["style"]) == ("neutral", "anger", "natural")
    assert (talk["valence"], talk["arousal"], talk["dominance"], talk["naturalness"]) == (3.5, 3.0, 2.5, 4.0)
    assert (talk["votes_neutral"], talk["votes_sadness"], talk["votes_anger"]) == (2, 1, 0)
    assert (talk["text"], talk["language"]) == ("How are you?", "en")
    assert (read["speaker"], read["emotion"], read["style"]) == ("M03", None, "read")
    assert (read["votes_happiness"], read["votes_other"]) == (1, 1)
    assert (read["text"], read["dominance"]) == (None, pytest.approx(float("nan"), nan_ok=True))


def test_defects_are_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "All_human_transcriptions").rename(tmp_path / "Texts")
    (tmp_path / "Audio").rename(tmp_path / "Sounds")
    (tmp_path / "Sounds" / "session1" / "S01A" / "P" / f"{TALK}.wav").write_bytes(b"no sound")
    record(tmp_path / "Sounds" / "holiday.wav")
    record(tmp_path / "Sounds" / "MSP-IMPROV-S03S-F02-S-MF07.wav")
    record(tmp_path / "Sounds" / "MSP-IMPROV-S04S-F02-S-MF07.wav")
    (tmp_path / "Evalution.txt").write_text(
        EVALUATION
        + "UTD-IMPROV-S04S-F02-S-MF07.avi; Q; A:1.0;\n\nUTD-IMPROV-S05A-F01-S-FM01.avi; A; A:1.0;\n"
    )
    manifest = scan("msp-improv", tmp_path)
    rows = {row["key"]: row for row in manifest.table.to_dict("records")}
    assert set(rows) == {READ, "MSP-IMPROV-S03S-F02-S-MF07"}
    assert rows["MSP-IMPROV-S03S-F02-S-MF07"]["emotion"] is None
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {TALK, "holiday", "MSP-IMPROV-S04S-F02-S-MF07", "Evalution"}
    assert errors["Evalution"] == "1 of its 4 recordings are absent: MSP-IMPROV-S05A-F01-S-FM01"
    assert "unknown emotion 'Q'" in errors["MSP-IMPROV-S04S-F02-S-MF07"]
    assert [note.split()[0] for note in manifest.notes] == ["All_human_transcriptions", "1"]


def test_absent_or_strange_labels_are_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    labels = (tmp_path / "Evalution.txt").rename(tmp_path / "Audio" / "Evaluation.txt")
    assert scan("msp-improv", tmp_path).table["emotion"].tolist() == ["neutral", None]
    labels.write_text("nothing of the kind\n")
    with pytest.raises(ManifestError, match="labels no recording"):
        scan("msp-improv", tmp_path)
    labels.unlink()
    with pytest.raises(ManifestError, match=r"no Evalution\.txt"):
        scan("msp-improv", tmp_path)
