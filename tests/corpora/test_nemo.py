from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

TABLE = (
    "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    "WR0_surprised_64.wav\tsurprised\tUcho wykrywa dźwięki.\tucho wykrywa dźwięki\t        WR0\tmale\t23\n"
    "EB0_neutral_13.wav\tneutral\tInteresuje mnie historia.\tinteresuje mnie\t        EB0\tfemale\t27\n"
)


def tree(root: Path, record: Callable[..., Path]) -> None:
    for name in ("WR0_surprised_64", "EB0_neutral_13"):
        record(root / "samples" / f"{name}.wav")
    (root / "data.tsv").write_text(TABLE, encoding="utf-8")


def test_columns_come_from_the_name_and_the_table(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("nemo", tmp_path)
    columns = ["key", "speaker", "emotion", "gender", "age", "text", "language"]
    assert manifest.table[columns].values.tolist() == [
        ["EB0_neutral_13", "EB0", "neutral", "female", 27, "Interesuje mnie historia.", "pl"],
        ["WR0_surprised_64", "WR0", "surprise", "male", 23, "Ucho wykrywa dźwięki.", "pl"],
    ]
    assert (manifest.errors, manifest.notes) == ((), ())


def test_the_table_may_be_absent_and_the_folder_renamed(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "data.tsv").unlink()
    (tmp_path / "samples").rename(tmp_path / "wav")
    manifest = scan("nemo", tmp_path)
    assert manifest.table["emotion"].tolist() == ["neutral", "surprise"]
    assert manifest.table["gender"].tolist() == [None, None]
    assert "data.tsv is absent" in manifest.notes[0]


def test_strange_and_lost_recordings_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "samples" / "WR0_surprised_64.wav").unlink()
    for name in ("hello", "WR0_surprised_65"):
        record(tmp_path / "samples" / f"{name}.wav")
    with open(tmp_path / "data.tsv", "a", encoding="utf-8") as table:
        table.write("IC0_fear_1.wav\tfear\tLubię.\tlubię\tIC0\tfemale\t28\n")
        table.write("IC0_envy_1.wav\tenvy\tLubię.\tlubię\tIC0\tfemale\t28\n")
    (tmp_path / "samples" / "IC0_fear_1.wav").write_bytes(b"RIFF")
    record(tmp_path / "samples" / "IC0_envy_1.wav")
    manifest = scan("nemo", tmp_path)
    assert manifest.keys == ["EB0_neutral_13"]
    errors = {Path(file).name: message for file, message in manifest.errors}
    assert set(errors) == {
        "hello.wav",
        "WR0_surprised_65.wav",
        "IC0_fear_1.wav",
        "IC0_envy_1.wav",
        "data.tsv",
    }
    assert "no row" in errors["WR0_surprised_65.wav"]
    assert "unknown emotion 'envy'" in errors["IC0_envy_1.wav"]
    assert errors["data.tsv"] == "1 of its 4 recordings are absent: WR0_surprised_64"


def test_a_table_of_another_kind_is_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "data.tsv").write_text("file_id\traw_text\n")
    with pytest.raises(ManifestError, match=r"data\.tsv lacks the columns age, gender"):
        scan("nemo", tmp_path)
