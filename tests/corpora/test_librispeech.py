from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

SPEAKERS = """; the readers
;ID  |SEX| SUBSET           |MINUTES| NAME
60   | M | train-clean-100  | 20.18 | |CBW|Simon
84   | F | dev-clean        |  8.02 | Christie Nowak
"""


def tree(root: Path, record: Callable[..., Path]) -> None:
    for folder, key in (("train-clean-100/60/121082", "60-121082"), ("dev-clean/84/121123", "84-121123")):
        record(root / folder / f"{key}-0000.flac")
        (root / folder / f"{key}.trans.txt").write_text(f"{key}-0000 GO ON\n")
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)


def test_columns_come_from_names_and_tables(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path / "LibriSpeech", record)
    manifest = scan("librispeech", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    woman, man = manifest.table.to_dict("records")
    assert (man["key"], man["speaker"], man["gender"]) == ("60-121082-0000", "60", "male")
    assert (man["session"], man["text"], man["language"]) == ("121082", "GO ON", "en")
    assert (man["split"], man["subset"], man["emotion"]) == ("train", "train-clean-100", None)
    assert (woman["speaker"], woman["gender"], woman["split"]) == ("84", "female", "dev")


def test_the_subset_of_a_renamed_folder_comes_from_the_table(
    tmp_path: Path, record: Callable[..., Path]
) -> None:
    tree(tmp_path, record)
    (tmp_path / "dev-clean").rename(tmp_path / "mine")
    assert set(scan("librispeech", tmp_path).table["subset"]) == {"dev-clean", "train-clean-100"}


def test_defects_are_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "SPEAKERS.TXT").unlink()
    (tmp_path / "dev-clean").rename(tmp_path / "mine")
    for path in list(tmp_path.rglob("*.trans.txt")):
        path.unlink()
    (tmp_path / "mine" / "84-121123-0001.flac").write_bytes(b"no sound")
    record(tmp_path / "mine" / "holiday.wav")
    manifest = scan("librispeech", tmp_path)
    assert manifest.table["gender"].tolist() == [None, None]
    assert manifest.table["split"].tolist() == [None, "train"]
    assert {Path(file).stem for file, _ in manifest.errors} == {"84-121123-0001", "holiday"}
    assert [note.split(":")[1] for note in manifest.notes] == [" gender stays empty", " text stays empty"]


def test_a_table_of_another_kind_is_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "SPEAKERS.TXT").write_text("60,M,train-clean-100\n")
    with pytest.raises(ManifestError, match=r"SPEAKERS\.TXT is not ID \| SEX"):
        scan("librispeech", tmp_path)
