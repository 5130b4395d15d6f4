"""Databases of audformat: with the package where it is installed, with the install line where it is not."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError, MissingPackageError

Record = Callable[..., Path]


def rows(manifest: Manifest) -> list[dict[Any, Any]]:
    return manifest.table.to_dict("records")


needs_audformat = pytest.mark.skipif(find_spec("audformat") is None, reason="needs the package audformat")

HEADER = {
    "name": "mine",
    "source": "here",
    "usage": "unrestricted",
    "languages": ["deu"],
    "schemes": {
        "emotion": {"dtype": "str", "labels": ["anger", "sadness"]},
        "speaker": {"dtype": "int", "labels": "speaker"},
        "gender": {"dtype": "str"},
        "transcription": {"dtype": "str", "labels": {"a01": "Guten Tag.", "a02": "Gute Nacht."}},
    },
    "splits": {"test": {"type": "test"}},
    "tables": {
        "files": {
            "type": "filewise",
            "columns": {"speaker": {"scheme_id": "speaker"}, "transcription": {"scheme_id": "transcription"}},
        },
        "emotion": {"type": "filewise", "split_id": "test", "columns": {"emotion": {"scheme_id": "emotion"}}},
    },
    "misc_tables": {
        "speaker": {"levels": {"speaker": "int"}, "columns": {"gender": {"scheme_id": "gender"}}}
    },
}


def audformat(root: Path, record: Record, parquet: bool = False) -> None:
    record(root / "wav" / "a.wav", seconds=2)
    record(root / "wav" / "b.wav", seconds=2)
    (root / "db.yaml").write_text(yaml.safe_dump(HEADER))
    tables = {
        "files": {"file": ["wav/a.wav", "wav/b.wav"], "speaker": [3, 8], "transcription": ["a01", "a02"]},
        "emotion": {"file": ["wav/a.wav", "wav/b.wav"], "emotion": ["anger", "sadness"]},
        "speaker": {"speaker": [3, 8], "gender": ["male", "female"]},
    }
    for name, columns in tables.items():
        table = pd.DataFrame(columns)
        table.to_parquet(root / f"db.{name}.parquet") if parquet else table.to_csv(
            root / f"db.{name}.csv", index=False
        )


@needs_audformat
@pytest.mark.parametrize("parquet", [False, True])
def test_audformat_tables_are_put_side_by_side(tmp_path: Path, record: Record, parquet: bool) -> None:
    audformat(tmp_path, record, parquet)
    one, other = rows(scan("table", tmp_path))
    assert (one["speaker"], one["gender"], one["emotion"]) == ("3", "male", "anger")
    assert (one["text"], one["language"], one["split"]) == ("Guten Tag.", "deu", "test")
    assert (other["speaker"], other["gender"], other["emotion"]) == ("8", "female", "sadness")


@needs_audformat
def test_audformat_segments_take_what_is_known_of_their_file(tmp_path: Path, record: Record) -> None:
    audformat(tmp_path, record)
    header = json.loads(json.dumps(HEADER))
    header["tables"]["emotion"]["type"] = "segmented"
    (tmp_path / "db.yaml").write_text(yaml.safe_dump(header))
    (tmp_path / "db.emotion.csv").write_text(
        "file,start,end,emotion\n"
        "wav/a.wav,0 days 00:00:00,0 days 00:00:00.500000,anger\n"
        "wav/a.wav,0 days 00:00:01.250000,,sadness\n"
    )
    manifest = scan("table", tmp_path)
    assert manifest.table["start"].tolist() == [0.0, 1.25]
    assert manifest.table["end"].tolist()[0] == 0.5
    assert manifest.table["end"].isna().tolist() == [False, True]
    assert manifest.table["speaker"].tolist() == ["3", "3"]
    assert manifest.problems() == []


@needs_audformat
def test_audformat_faults_are_named(tmp_path: Path, record: Record) -> None:
    audformat(tmp_path, record)
    with pytest.raises(ManifestError, match=r"unknown audformat table 'emotions'.*did you mean 'emotion'"):
        scan("table", tmp_path, tables=["emotions"])
    header = json.loads(json.dumps(HEADER))
    header["tables"]["other"] = header["tables"]["emotion"]
    (tmp_path / "db.yaml").write_text(yaml.safe_dump(header))
    with pytest.raises(ManifestError, match=r"no db\.other\.csv or \.parquet"):
        scan("table", tmp_path)
    (tmp_path / "db.other.csv").write_text("file,emotion\nwav/a.wav,sadness\n")
    with pytest.raises(ManifestError, match=r"contradict each other: emotion of wav/a\.wav"):
        scan("table", tmp_path)
    assert len(scan("table", tmp_path, tables=["files", "emotion"])) == 2
    (tmp_path / "db.yaml").write_text("- a list")
    with pytest.raises(ManifestError, match="no audformat header"):
        scan("table", tmp_path)


@needs_audformat
def test_pickles_are_not_opened(tmp_path: Path, record: Record) -> None:
    audformat(tmp_path, record)
    for name in ("files", "emotion", "speaker"):
        (tmp_path / f"db.{name}.pkl").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    assert len(scan("table", tmp_path)) == 2
    assert not Path("opened").exists()
    (tmp_path / "db.emotion.csv").unlink()
    with pytest.raises(ManifestError, match=r"no db\.emotion\.csv or \.parquet"):
        scan("table", tmp_path)


def test_without_the_package_the_install_line_is_named(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    audformat(tmp_path, record)
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[audformat\]'"):
        scan("table", tmp_path)
