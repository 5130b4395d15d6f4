from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "Actor_02" / "03-01-06-02-02-01-02.wav")
    record(tmp_path / "Actor_02" / "03-02-06-02-02-01-02.wav")
    record(tmp_path / "Actor_02" / "03-01-09-02-02-01-02.wav")
    record(tmp_path / "Actor_02" / "03-01-06-02-02-01-31.wav")
    record(tmp_path / "Actor_02" / "notes.wav")
    manifest = scan("ravdess", tmp_path)
    (row,) = (row for _, row in manifest.table.iterrows())
    assert (row["key"], row["speaker"], row["emotion"]) == ("03-01-06-02-02-01-02", "02", "fear")
    assert (row["gender"], row["intensity_level"], row["take"]) == ("female", "strong", "01")
    assert row["text"] == "Dogs are sitting by the door."
    assert len(manifest.errors) == 3


@pytest.mark.corpora
def test_the_real_corpus(corpora_root: Path) -> None:
    manifest = scan("ravdess", corpora_root / "ravdess")
    assert (len(manifest), len(manifest.speakers), manifest.errors) == (1440, 24, ())
    assert Counter(manifest.table["emotion"])["neutral"] == 96
    assert Counter(manifest.table["gender"]) == {"male": 720, "female": 720}
    found = manifest.where(manifest.table["speaker"] == "07").problems()
    assert [(problem.kind, problem.key) for problem in found] == [("duplicate", "03-01-03-01-02-02-07")]
