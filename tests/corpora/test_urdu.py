from collections.abc import Callable
from pathlib import Path

from affetto.corpora import scan


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "Angry" / "SM1_F10_A010.wav")
    record(tmp_path / "renamed" / "SF10_F1_S01.wav")
    manifest = scan("urdu", tmp_path)
    columns = ["key", "speaker", "emotion", "gender", "text", "language"]
    assert manifest.table[columns].values.tolist() == [
        ["SM1_F10_A010", "SM1", "anger", "male", None, "ur"],
        ["SF10_F1_S01", "SF10", "sadness", "female", None, "ur"],
    ]
    assert manifest.errors == ()


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    for name in ("SM5_F1_N029", "hello", "SX1_F1_A01", "SM1_F1_D01"):
        record(tmp_path / "Neutral" / f"{name}.wav")
    (tmp_path / "Neutral" / "SM5_F2_N030.wav").write_bytes(b"RIFF")
    manifest = scan("urdu", tmp_path)
    assert manifest.keys == ["SM5_F1_N029"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"hello", "SX1_F1_A01", "SM1_F1_D01", "SM5_F2_N030"}
    assert "unknown gender 'X'" in errors["SX1_F1_A01"]
    assert "unknown emotion 'D'" in errors["SM1_F1_D01"]
