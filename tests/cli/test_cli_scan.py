from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from affetto.cli.manifest import scan
from affetto.corpora import toy
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ManifestError

app = typer.Typer()
app.command()(scan)
SMALL = ("--speakers", "1", "--takes", "1")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_corpus_becomes_a_manifest(tmp_path: Path) -> None:
    said = run("toy", tmp_path / "audio", "-o", tmp_path / "m.csv", *SMALL)
    assert "20 utterances, 1 speakers, 5 emotions" in said
    manifest = Manifest.read(tmp_path / "m.csv")
    assert all(path.exists() for path in manifest.paths)


def test_a_bad_recording_is_named_and_the_exit_code_is_one(tmp_path: Path) -> None:
    toy.write(tmp_path / "audio", speakers=1, sentences=1, takes=1)
    (tmp_path / "audio" / "f01" / "f01_s01_anger_t09.flac").write_bytes(b"fLaC, or so it says")
    result = CliRunner().invoke(app, ["toy", str(tmp_path / "audio"), "-o", str(tmp_path / "m.csv")])
    assert result.exit_code == 1
    assert "left out: f01/f01_s01_anger_t09.flac" in result.output
    assert len(Manifest.read(tmp_path / "m.csv")) == 5


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    toy.write(tmp_path / "audio", speakers=1, sentences=1, takes=1)
    pattern = r"(?P<speaker>[fm]\d+)_s\d+_(?P<emotion>[a-z]+)_"
    said = run(
        "table", tmp_path / "audio", "-o", tmp_path / "m.jsonl", "--pattern", pattern, "--name", "own",
        "--label", "fear=surprise",
    )  # fmt: skip
    assert "5 utterances, 1 speakers, 5 emotions" in said
    manifest = Manifest.read(tmp_path / "m.jsonl")
    assert (manifest.corpora, "surprise" in manifest.labels, "fear" in manifest.labels) == (
        ["own"],
        True,
        False,
    )


def test_a_sheet_is_not_written_over(tmp_path: Path) -> None:
    sheet = tmp_path / "l.csv"
    sheet.write_text("clip,mood\na.wav,Wut\n")
    with pytest.raises(ConfigError, match="is read, and would be written over"):
        run("table", sheet, "-o", tmp_path / "." / "l.csv", "--column", "file=clip")
    assert sheet.read_text().startswith("clip,mood")


def test_a_scan_without_speakers_says_how_to_name_them(tmp_path: Path) -> None:
    toy.write(tmp_path / "audio", speakers=1, sentences=1, takes=1)
    said = run("table", tmp_path / "audio", "-o", tmp_path / "m.csv", "--pattern", "(?P<who>f01)")
    assert "--column speaker=COLUMN" in said


def test_columns_are_mapped(tmp_path: Path) -> None:
    toy.write(tmp_path, speakers=1, sentences=1, takes=1)
    (tmp_path / "l.csv").write_text("clip,mood\nf01/f01_s01_anger_t01.flac,Wut\n")
    said = run(
        "table",
        tmp_path / "l.csv",
        "-o",
        tmp_path / "m.csv",
        "--column",
        "file=clip",
        "--column",
        "emotion=mood",
    )
    assert "1 utterances, 0 speakers, 1 emotions" in said


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("cremad", "."), ManifestError, "did you mean 'crema-d'"),
        (("emodb", ".", "--pattern", "x"), ConfigError, "pattern: only for affetto scan table, got emodb"),
        (("emodb", ".", "--takes", "1"), ConfigError, "takes: only for affetto scan toy, got emodb"),
        (("table", ".", "--column", "file"), ConfigError, "must look like NAME=VALUE"),
    ],
)
def test_words_that_do_not_fit(
    tmp_path: Path, words: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*words, "-o", tmp_path / "m.csv")
