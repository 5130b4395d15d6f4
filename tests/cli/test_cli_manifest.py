from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from affetto.cli.manifest import app
from affetto.corpora import toy
from affetto.corpora.manifest import Manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    toy.write(tmp_path / "audio", speakers=2, sentences=1, takes=1).write(tmp_path / "m.csv")
    return tmp_path / "m.csv"


def test_describe_prints_the_corpus(path: Path) -> None:
    result = CliRunner().invoke(app, ["describe", str(path)])
    assert result.exit_code == 0
    assert "10 utterances" in result.output
    assert ["anger", "1", "1", "2"] in [line.split() for line in result.output.splitlines()]


def test_validate_is_silent_about_good_rows_and_names_bad_ones(path: Path) -> None:
    good = CliRunner().invoke(app, ["validate", str(path)])
    assert (good.exit_code, good.output.strip()) == (0, "10 rows, 0 problems")
    folder = path.parent / "audio" / "f01"
    (folder / "f01_s01_anger_t01.flac").write_bytes(b"")
    soundfile.write(folder / "f01_s01_fear_t01.flac", np.zeros(16000), 16000)
    bad = CliRunner().invoke(app, ["validate", str(path)])
    assert bad.exit_code == 1
    assert "unreadable: f01_s01_anger_t01" in bad.output
    assert "silent: f01_s01_fear_t01" in bad.output
    assert "10 rows, 2 problems" in bad.output


def test_validate_takes_another_root(path: Path) -> None:
    (path.parent / "audio").rename(path.parent / "moved")
    assert CliRunner().invoke(app, ["validate", str(path)]).exit_code == 1
    assert (
        CliRunner().invoke(app, ["validate", str(path), "--root", str(path.parent / "moved")]).exit_code == 0
    )


def test_join_puts_corpora_together(path: Path) -> None:
    table = Manifest.read(path).table
    other = path.parent / "other.csv"
    Manifest(table.assign(corpus="twin"), {"twin": path.parent / "audio"}).write(other)
    joined = path.parent / "both.parquet"
    result = CliRunner().invoke(app, ["join", str(path), str(other), "-o", str(joined)])
    assert "20 utterances of toy, twin" in result.output
    assert "different people: f01, m01" in result.output
    assert Manifest.read(joined).speakers == ["toy/f01", "toy/m01", "twin/f01", "twin/m01"]
    assert all(file.exists() for file in Manifest.read(joined).paths)


@pytest.mark.parametrize("words", [["join", "m.csv", "other.csv"], ["relabel", "m.csv", "--map", "basic-6"]])
def test_what_is_read_is_not_written_over(
    path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    Manifest.read(path).write(Path("other.csv"))
    before = path.read_bytes()
    result = CliRunner().invoke(app, [*words, "-o", str(path)])
    assert "is read, and would be written over" in str(result.exception)
    assert path.read_bytes() == before


def test_relabel_lists_what_a_map_would_drop(path: Path) -> None:
    target = path.with_name("sign.csv")
    given = ["relabel", str(path), "-o", str(target), "--map"]
    before = Manifest.read(path)
    neutral = int((before.table["emotion"] == "neutral").sum())
    refused = CliRunner().invoke(app, [*given, "valence-sign"])
    message = (
        f"the map valence-sign says nothing of neutral ({neutral} rows); with --drop these rows are left out"
    )
    assert str(refused.exception) == message
    assert not target.exists()
    done = CliRunner().invoke(app, [*given, "valence-sign", "--drop"])
    assert f"negative, positive, {neutral} left out" in done.output
    after = Manifest.read(target)
    happy = before.table.loc[before.table["emotion"] == "happiness", "key"]
    assert set(after.where(list(happy)).table["emotion"]) == {"positive"}
    assert len(after) == len(before) - neutral
    assert after.paths[0].exists()
    assert "did you mean 'basic-6'" in str(CliRunner().invoke(app, [*given, "basic6"]).exception)
