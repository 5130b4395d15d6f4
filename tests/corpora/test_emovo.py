from collections.abc import Callable
from pathlib import Path

from affetto.corpora import scan


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "EMOVO" / "f1" / "dis-f1-b1.wav")
    record(tmp_path / "EMOVO" / "renamed" / "gio-m3-d1.wav")
    manifest = scan("emovo", tmp_path)
    columns = ["key", "speaker", "emotion", "gender", "text", "language"]
    assert manifest.table[columns].values.tolist() == [
        ["dis-f1-b1", "f1", "disgust", "female", "Gli operai si alzano presto.", "it"],
        ["gio-m3-d1", "m3", "happiness", "male", "Sabato sera cosa farà?", "it"],
    ]
    assert manifest.errors == ()


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    for name in ("neu-f1-n5", "hello", "foo-f1-b1", "neu-f4-b1", "neu-f1-b9"):
        record(tmp_path / "f1" / f"{name}.wav")
    (tmp_path / "f1" / "tri-f1-b1.wav").write_bytes(b"RIFF")
    manifest = scan("emovo", tmp_path)
    assert manifest.keys == ["neu-f1-n5"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"hello", "foo-f1-b1", "neu-f4-b1", "neu-f1-b9", "tri-f1-b1"}
    assert "unknown emotion 'foo'" in errors["foo-f1-b1"]
    assert "unknown speaker 'f4'" in errors["neu-f4-b1"]
    assert "unknown sentence 'b9'" in errors["neu-f1-b9"]
