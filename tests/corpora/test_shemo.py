import json
from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

UTTERANCES = [
    {"id": "M02F01", "gender": "male", "emotion": "fearful", "transcript": "\ufeffسلام", "ipa": "salam"},
    {"id": "F01A01", "gender": "female", "emotion": "angry", "transcript": "نه", "ipa": "na"},
]


def tree(root: Path, record: Callable[..., Path]) -> None:
    record(root / "female" / "F01A01.wav")
    record(root / "male" / "M02F01.wav")
    (root / "shemo.json").write_text(json.dumps(UTTERANCES))


def test_columns_come_from_the_name_and_the_texts(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("shemo", tmp_path)
    columns = ["key", "speaker", "emotion", "gender", "text", "language"]
    assert manifest.table[columns].values.tolist() == [
        ["F01A01", "F01", "anger", "female", "نه", "fa"],
        ["M02F01", "M02", "fear", "male", "سلام", "fa"],
    ]
    assert (manifest.errors, manifest.notes) == ((), ())


def test_the_texts_may_be_absent_and_a_folder_renamed(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "shemo.json").unlink()
    (tmp_path / "male").rename(tmp_path / "zip")
    manifest = scan("shemo", tmp_path)
    assert manifest.table["gender"].tolist() == ["female", "male"]
    assert manifest.table["text"].tolist() == [None, None]
    assert "shemo.json is absent" in manifest.notes[0]


def test_strange_and_lost_recordings_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "male" / "M02F01.wav").unlink()
    for name in ("F01N01", "hello", "X01A01", "F01D01"):
        record(tmp_path / "female" / f"{name}.wav")
    (tmp_path / "female" / "F01S01.wav").write_bytes(b"RIFF")
    manifest = scan("shemo", tmp_path)
    assert manifest.table.set_index("key")["text"].to_dict() == {"F01A01": "نه", "F01N01": None}
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"hello", "X01A01", "F01D01", "F01S01", "shemo"}
    assert "unknown gender 'X'" in errors["X01A01"]
    assert "unknown emotion 'D'" in errors["F01D01"]
    assert errors["shemo"] == "1 of its 2 recordings are absent: M02F01"


@pytest.mark.parametrize(
    ("content", "message"), [('[{"id": "F01A01"}]', "lacks the columns transcript"), ("{", "is not a list")]
)
def test_texts_of_another_kind_are_refused(
    content: str, message: str, tmp_path: Path, record: Callable[..., Path]
) -> None:
    tree(tmp_path, record)
    (tmp_path / "shemo.json").write_text(content)
    with pytest.raises(ManifestError, match=rf"shemo\.json {message}"):
        scan("shemo", tmp_path)
