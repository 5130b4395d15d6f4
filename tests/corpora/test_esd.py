from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan

TEXTS = {
    "0001": ("打远一看。", "生气", "gb2312"),
    "0003": ("打远一看。", "生气", "utf-16"),
    "0011": ("The nine the eggs, I keep.", "Angry", "utf-8"),
    "0016": ("That’s all.", "Angry", "cp1252"),
}


def tree(root: Path, record: Callable[..., Path]) -> None:
    for speaker, (text, emotion, encoding) in TEXTS.items():
        record(root / speaker / "Angry" / "evaluation" / f"{speaker}_000351.wav")
        (root / speaker / f"{speaker}.txt").write_bytes(
            f"{speaker}_000351\t{text}\t{emotion}\r\n\r\n".encode(encoding)
        )
    record(root / "0011" / "Happy" / "train" / "0011_000721.wav")


def test_columns_come_from_folders_and_transcripts(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path / "Emotion Speech Dataset", record)
    manifest = scan("esd", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    rows = {row["key"]: row for row in manifest.table.to_dict("records")}
    first = rows["0001_000351"]
    assert (first["speaker"], first["emotion"], first["gender"]) == ("0001", "anger", "female")
    assert (first["language"], first["split"]) == ("zh", "dev")
    assert [rows[f"{speaker}_000351"]["text"] for speaker in TEXTS] == [text for text, _, _ in TEXTS.values()]
    happy = rows["0011_000721"]
    assert (happy["emotion"], happy["gender"], happy["language"]) == ("happiness", "male", "en")
    assert (happy["split"], happy["text"]) == ("train", None)


def test_a_copy_without_folders_of_splits(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "0020" / "Surprise" / "0020_001401.wav")
    (row,) = scan("esd", tmp_path).table.to_dict("records")
    assert (row["emotion"], row["gender"], row["split"]) == ("surprise", "male", None)


@pytest.mark.parametrize("folder", ["Cheerful", "train"])
def test_defects_are_told(folder: str, tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "0011" / "Happy").rename(tmp_path / "0011" / folder)
    for path in list(tmp_path.rglob("*.txt")):
        path.unlink()
    (tmp_path / "0003" / "Angry" / "evaluation" / "0003_000351.wav").write_bytes(b"no sound")
    record(tmp_path / "0001" / "Angry" / "holiday.wav")
    record(tmp_path / "0021" / "Angry" / "0021_000351.wav")
    manifest = scan("esd", tmp_path)
    assert manifest.keys == ["0001_000351", "0011_000351", "0016_000351"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"0003_000351", "0011_000721", "0021_000351", "holiday"}
    assert "unknown emotion" in errors["0011_000721"]
    assert "text stays empty" in manifest.notes[0]
