from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1
MSP-PODCAST_0002_0039_0001.wav,X,5.5,2.25,5.0,Unknown,Unknown,Train
MSP-PODCAST_0003_0001.wav,C,4.0,3.0,4.5,39,Female,Development
"""
DETAILED = """FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,WORKER00000001,Neutral,Neutral,2,4,3
MSP-PODCAST_0001_0008.wav,WORKER00000002,Neutral,"Neutral,Concerned",2,4,2
MSP-PODCAST_0001_0008.wav,WORKER00000003,Other-confused,Confused,2,4,2
MSP-PODCAST_0003_0001.wav,WORKER00000001,Contempt,Annoyed,4,3,4
"""
QUOTED = """FileName,Annotation
MSP-PODCAST_0001_0008.wav,"WORKER00000001; Sad; Sad,Concerned; A:2.0; V:4.0; D:3.0;"
MSP-PODCAST_0001_0008.wav,"WORKER00000002; Other-tired; ; A:2.0; V:4.0; D:2.0;"
"""
NAMES = ("0001_0008", "0002_0039_0001", "0003_0001", "test3_0001")


def tree(root: Path, record: Callable[..., Path]) -> None:
    for name in NAMES:
        record(root / "Audios" / f"MSP-PODCAST_{name}.wav")
    for folder in ("Labels", "Transcripts"):
        (root / folder).mkdir()
    (root / "Labels" / "labels_consensus.csv").write_text(CONSENSUS)
    (root / "Labels" / "labels_detailed.csv").write_text(DETAILED)
    (root / "Transcripts" / "MSP-PODCAST_0001_0008.txt").write_text("Well, hello.\n")


def test_labels_votes_and_splits(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("msp-podcast", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    first, unsure, scornful, secret = manifest.table.to_dict("records")
    assert (first["speaker"], first["emotion"], first["gender"]) == ("30", "neutral", "male")
    assert (first["session"], first["split"], first["language"]) == ("0001", "test1", "en")
    assert (first["arousal"], first["valence"], first["dominance"]) == (2.2, 4.0, 2.6)
    assert (first["votes_neutral"], first["votes_other"], first["votes_anger"]) == (2, 1, 0)
    assert first["text"] == "Well, hello."
    assert [unsure[name] for name in ("speaker", "emotion", "gender", "text")] == [None] * 4
    assert (unsure["split"], unsure["valence"]) == ("train", 2.25)
    assert (scornful["emotion"], scornful["gender"], scornful["split"]) == ("contempt", "female", "dev")
    assert [secret[name] for name in ("speaker", "emotion", "session")] == [None] * 3
    assert (secret["key"], secret["split"]) == ("MSP-PODCAST_test3_0001", "test3")


def test_votes_of_a_release_with_one_cell_a_rater(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "Labels" / "labels_detailed.csv").write_text(QUOTED)
    votes = scan("msp-podcast", tmp_path).table.filter(like="votes_").iloc[0]
    assert (votes["votes_sadness"], votes["votes_other"], votes.sum()) == (1, 1, 2)


def test_defects_are_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "Labels" / "labels_detailed.csv").unlink()
    (tmp_path / "Transcripts").rename(tmp_path / "Texts")
    audios = (tmp_path / "Audios").rename(tmp_path / "Sounds")
    lines = [f"MSP-PODCAST_0009_{number:04}.wav,N,1,1,1,5,Male,Train\n" for number in range(5000)]
    (tmp_path / "Labels" / "labels_consensus.csv").write_text(
        CONSENSUS.replace("0003_0001.wav,C", "0003_0001.wav,Q") + "".join(lines)
    )
    (audios / "MSP-PODCAST_0001_0008.wav").write_bytes(b"no sound")
    record(audios / "holiday.wav")
    record(audios / "MSP-PODCAST_0004_0001.wav")
    manifest = scan("msp-podcast", tmp_path)
    assert manifest.keys == [
        "MSP-PODCAST_0002_0039_0001",
        "MSP-PODCAST_0004_0001",
        "MSP-PODCAST_test3_0001",
    ]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"MSP-PODCAST_0001_0008", "MSP-PODCAST_0003_0001", "holiday", "labels_consensus"}
    assert "unknown emotion 'Q'" in errors["MSP-PODCAST_0003_0001"]
    assert errors["labels_consensus"].startswith(
        "5000 of its 5003 recordings are absent: MSP-PODCAST_0009_0000,"
    )
    votes, texts, unnamed = manifest.notes
    assert "no votes" in votes
    assert "Transcripts" in texts
    assert unnamed.startswith("1 of 4 recordings are not in labels_consensus.csv: MSP-PODCAST_0004_0001")


def test_absent_or_strange_labels_are_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    labels = tmp_path / "Labels" / "labels_consensus.csv"
    labels.write_text(CONSENSUS.replace("EmoVal", "Valence"))
    with pytest.raises(ManifestError, match=r"labels_consensus\.csv lacks the columns EmoVal"):
        scan("msp-podcast", tmp_path)
    labels.rename(labels.with_name("labels_concensus.csv")).write_text(CONSENSUS)
    assert len(scan("msp-podcast", tmp_path)) == 4
    (tmp_path / "Labels" / "labels_detailed.csv").write_text("FileName,Worker,Label\na,b,c\n")
    with pytest.raises(ManifestError, match="lacks the columns EmoClass_Major"):
        scan("msp-podcast", tmp_path)
    (tmp_path / "Labels").rename(tmp_path / "labels")
    with pytest.raises(ManifestError, match=r"labels_consensus\.csv is absent"):
        scan("msp-podcast", tmp_path)
