from collections.abc import Callable
from pathlib import Path

from affetto.corpora import scan


def test_columns_come_from_the_name_in_both_layouts(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "OAF_back_angry.wav")
    record(tmp_path / "OAF_neutral" / "OA_bite_neutral.wav")
    record(tmp_path / "YAF_pleasant_surprised" / "YAF_youth_ps.wav")
    manifest = scan("tess", tmp_path)
    older, typing_error, younger = (
        row[["key", "speaker", "emotion", "gender", "age", "text", "language"]].tolist()
        for _, row in manifest.table.sort_values("key").iterrows()
    )
    assert older == ["OAF_back_angry", "OAF", "anger", "female", 64, "Say the word back.", "en"]
    assert typing_error[:3] == ["OAF_bite_neutral", "OAF", "neutral"]
    assert younger[:5] == ["YAF_youth_ps", "YAF", "pleasant_surprise", "female", 26]
    assert (manifest.errors, manifest.notes) == ((), ())


def test_a_copy_inside_itself_counts_once(tmp_path: Path, record: Callable[..., Path]) -> None:
    for folder in ("TESS", "TESS/TESS"):
        record(tmp_path / folder / "YAF_sad" / "YAF_back_sad.wav")
    manifest = scan("tess", tmp_path)
    assert manifest.table["file"].tolist() == ["TESS/TESS/YAF_sad/YAF_back_sad.wav"]
    assert manifest.errors == ()
    assert "passed over 1 recordings" in manifest.notes[0]


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "renamed" / "OAF_back_angry.wav")
    for name in ("hello", "OAF_back_bored", "XAF_back_angry"):
        record(tmp_path / f"{name}.wav")
    (tmp_path / "YAF_back_fear.wav").write_bytes(b"RIFF")
    manifest = scan("tess", tmp_path)
    assert manifest.keys == ["OAF_back_angry"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"hello", "OAF_back_bored", "XAF_back_angry", "YAF_back_fear"}
    assert "SPEAKER_WORD_EMOTION" in errors["hello"]
    assert "unknown emotion 'bored'" in errors["OAF_back_bored"]
    assert "unknown speaker 'XAF'" in errors["XAF_back_angry"]
