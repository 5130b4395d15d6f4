from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan


@pytest.mark.parametrize("name", ["AudioData/DC/{}.wav", "ALL/DC_{}.wav"])
def test_both_layouts_give_the_same_rows(name: str, tmp_path: Path, record: Callable[..., Path]) -> None:
    for code in ("a01", "sa15", "su02"):
        record(tmp_path / name.format(code))
    manifest = scan("savee", tmp_path)
    assert manifest.keys == ["DC_a01", "DC_sa15", "DC_su02"]
    assert manifest.table["emotion"].tolist() == ["anger", "sadness", "surprise"]
    columns = manifest.table[["speaker", "gender", "text", "language"]].drop_duplicates()
    assert columns.values.tolist() == [["DC", "male", None, "en"]]
    assert manifest.errors == ()


def test_one_sentence_of_two_speakers_is_two_rows(tmp_path: Path, record: Callable[..., Path]) -> None:
    for speaker in ("JE", "KL"):
        record(tmp_path / speaker / "n30.wav")
    manifest = scan("savee", tmp_path)
    assert (manifest.keys, manifest.speakers) == (["JE_n30", "KL_n30"], ["JE", "KL"])


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "AudioData" / "DC" / "a01.wav")
    for name in ("renamed/a02", "DC/x01", "DC/hello"):
        record(tmp_path / "AudioData" / f"{name}.wav")
    (tmp_path / "AudioData" / "DC" / "d01.wav").write_bytes(b"RIFF")
    manifest = scan("savee", tmp_path)
    assert manifest.keys == ["DC_a01"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"a02", "x01", "hello", "d01"}
    assert "unknown speaker 'renamed'" in errors["a02"]
    assert "unknown emotion 'x'" in errors["x01"]
