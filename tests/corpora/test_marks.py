"""A column says whose emotion labels it rests on, and goes on saying so wherever its manifest goes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affetto import corpora
from affetto.corpora.arrays import cell, marks_of, write_vectors
from affetto.corpora.curves import write_curves
from affetto.corpora.labels import Marks, write_marks
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError

OWN = Marks("controls.py", labels_used=True)
LEARNED = Marks(with_labels={"": ["c/1"], "2": ["c/3"]})


def manifest(corpus: str = "c") -> Manifest:
    table = pd.DataFrame(
        {
            "file": [f"{corpus}{row}.wav" for row in range(3)],
            "corpus": corpus,
            "speaker": ["1", "2", "3"],
            "emotion": ["anger", "anger", "fear"],
        }
    )
    return Manifest(table).with_columns({"pure": list("aab"), "learned": [0, 1, 2]}, {"pure": OWN})


def test_marks_travel_with_the_manifest(tmp_path: Path) -> None:
    manifest().with_columns({"learned": [2, 1, 0]}, {"learned": LEARNED}).write(tmp_path / "m.csv")
    again = Manifest.read(tmp_path / "m.csv")
    for each in (again, again.where(["c1"]), again.relabelled("basic-6"), Manifest.of(tmp_path / "m.csv")):
        assert marks_of(each, "pure") == OWN
        assert marks_of(each, "learned") == LEARNED
        assert marks_of(each, "speaker") == marks_of(each, "absent") == Marks()
    assert LEARNED.speakers() == LEARNED.speakers(1) == ["c/1"]
    assert LEARNED.speakers(2) == ["c/1", "c/3"]
    again.write(tmp_path / "deep" / "again.parquet")
    assert Manifest.read(tmp_path / "deep" / "again.parquet").marks == again.marks


def test_a_column_that_is_replaced_or_gone_has_no_marks(tmp_path: Path) -> None:
    manifest().write(tmp_path / "m.csv")
    assert (tmp_path / "m.marks.json").is_file()
    assert marks_of(Manifest.read(tmp_path / "m.csv").with_columns({"pure": [1, 2, 3]}), "pure") == Marks()
    Manifest(manifest().table.drop(columns="pure"), marks={"pure": OWN}).write(tmp_path / "m.csv")
    assert not (tmp_path / "m.marks.json").exists()


def test_a_script_marks_the_columns_of_a_file(tmp_path: Path) -> None:
    manifest().write(tmp_path / "m.csv")
    write_marks(tmp_path / "m.csv", {"learned": LEARNED})
    assert Manifest.read(tmp_path / "m.csv").marks == {"pure": OWN, "learned": LEARNED}
    (tmp_path / "m.marks.json").write_text("[1]")
    with pytest.raises(ManifestError, match="does not say which labels the columns rest on"):
        Manifest.read(tmp_path / "m.csv")


def test_joined_columns_rest_on_the_labels_of_both() -> None:
    other = manifest("d").with_columns({"pure": [1, 2, 3]}, {"pure": Marks(with_labels={"": ["d/9"]})})
    joined = Manifest.join([manifest().with_columns({}, {"learned": LEARNED}), other])
    assert marks_of(joined, "pure") == Marks("controls.py", True, {"": ["d/9"]})
    assert marks_of(joined, "learned") == LEARNED


def test_labels_themselves_and_arrays_are_marked_too(tmp_path: Path) -> None:
    info = {"encoder": "e", "encoder_sha256": "e", "speakers_seen": {"with_labels": "unknown"}}
    write_vectors(tmp_path / "v.npy", np.zeros((3, 2), np.float32), list("abc"), info)
    seen = {"with_labels": {"2": ["c/3"]}, "without_labels": []}
    facts = {"source": "s", "source_sha256": "s", "hop_seconds": 1.0, "protocol": "p", "folds": [2]}
    values = np.zeros((3, 1), np.float32)
    write_curves(tmp_path / "i.npy", values, [1, 1, 1], list("abc"), {**facts, "speakers_seen": seen})
    cells = {name: [cell(tmp_path / f"{name}.npy", row) for row in range(3)] for name in ("v", "i")}
    made = manifest().with_columns({**cells, "votes_fear": [1, 2, 3]})
    assert marks_of(made, "v") == Marks(unknown=True)
    assert marks_of(made, "i") == Marks(with_labels={"2": ["c/3"]})
    assert marks_of(made, "emotion").labels_used
    assert marks_of(made, "votes_fear").labels_used
    (tmp_path / "v.json").unlink()
    with pytest.raises(ManifestError, match="move a manifest together"):
        marks_of(made, "v")


def test_a_scanned_table_keeps_its_marks(tmp_path: Path, record: Callable[..., Path]) -> None:
    for name in manifest().table["file"]:
        record(tmp_path / name)
    manifest().write(tmp_path / "m.csv")
    scanned = corpora.scan("table", tmp_path / "m.csv", columns={"control": "pure"})
    assert scanned.marks == {"control": OWN}
