from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "wav" / "03a01Fa.wav")
    for name in ("07a01Fa", "03a03Fa", "03a01Xa", "whatever"):
        record(tmp_path / "wav" / f"{name}.wav")
    manifest = scan("emodb", tmp_path)
    (row,) = (row for _, row in manifest.table.iterrows())
    assert (row["speaker"], row["emotion"], row["gender"], row["take"]) == ("03", "happiness", "male", "a")
    assert row["text"] == "Der Lappen liegt auf dem Eisschrank."
    assert len(manifest.errors) == 4


@pytest.mark.corpora
def test_the_real_corpus(corpora_root: Path) -> None:
    manifest = scan("emodb", corpora_root / "emodb")
    assert (len(manifest), len(manifest.speakers), manifest.errors) == (535, 10, ())
    assert Counter(manifest.table["emotion"]) == {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    }
    assert Counter(manifest.table["gender"]) == {"female": 302, "male": 233}
