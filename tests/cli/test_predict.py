import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError
from affetto.models.checkpoint import save_weights
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings
from affetto.models.logmel import CnnSettings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    embedder = NetworkSettings(encoder=CnnSettings(width=16, bins=16, blocks=1))
    classifier = EmotionClassifier(
        ClassifierSettings(embedder=embedder, labels=("joy", "grief"), enrolment=True)
    )
    folder = tmp_path_factory.mktemp("model")
    config = {"class": "EmotionClassifier", "classifier": classifier.settings.model_dump(mode="json")}
    save_weights(folder, classifier, {**config, "speaker_dependent": True})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        samples = 0.1 * generator.normal(size=8000 + 4000 * number)
        soundfile.write(tmp_path / "audio" / f"{number}.flac", samples, 16_000)
    return tmp_path / "audio"


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["predict", "--any-sound", *map(str, words)])
    if isinstance(result.exception, AffettoError):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_of_something_else_is_left_alone(
    model: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"labels.{suffix}"
    if suffix == "parquet":
        pd.DataFrame({"Clip": ["a"]}).to_parquet(out)
    else:
        out.write_text("Clip,Mood\na,b\n" if suffix == "csv" else '{"Clip": "a"}\n')
    before = out.read_bytes()
    with pytest.raises(AffettoError, match="is no output of predict"):
        run(folder, "-m", model, "-o", out)
    assert out.read_bytes() == before


def test_the_folder_of_the_run_stands_for_its_recogniser(model: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recogniser").symlink_to(model)
    assert run(folder / "0.flac", "-m", tmp_path / "run", "-o", tmp_path / "out.csv")[0] == 0


def test_files_folders_and_lists_become_one_table(model: Path, folder: Path, tmp_path: Path) -> None:
    Manifest(pd.DataFrame({"file": ["1.flac", "2.flac"]}), {"": folder}).write(tmp_path / "list.csv")
    out = tmp_path / "out.jsonl"
    code, _, said = run(folder / "0.flac", folder, tmp_path / "list.csv", "-m", model, "-o", out)
    assert code == 0
    assert "9 recordings, 0 could not be read" in said
    assert "speaker-dependent" in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(row["file"]).stem for row in rows] == [*"0012345", "1", "2"]
    assert set(rows[0]) == {
        "file",
        "start",
        "end",
        "label",
        "confidence",
        "p_joy",
        "warning",
        "p_grief",
        "withheld",
        "error",
    }
    code, _, said = run(folder, "-m", model, "-o", out)
    assert code == 0
    assert "nothing was done" in said


def test_standard_output_is_csv_and_nothing_else(model: Path, folder: Path) -> None:
    _, _, said = run(folder / "0.flac", "-m", model)
    assert said.endswith("-: 1 recording, 0 could not be read\n")
    code, shown, _ = run(folder, "-m", model, "--window", "0.5", "--hop", "0.25")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0] == "file,start,end,label,confidence,p_joy,p_grief,withheld,warning,error"
    assert lines[1].startswith(f"{folder}/0.flac,0.0,0.5,")
    assert len(lines) - 1 == sum(1 + number for number in range(6))


@pytest.mark.parametrize("output", ["-", "out.csv", "out.jsonl", "out.parquet", "out.srt"])
def test_a_timeline_is_drawn_and_a_page_written(
    model: Path, folder: Path, tmp_path: Path, output: str
) -> None:
    out = output if output == "-" else tmp_path / output
    words = (folder / "5.flac", "-m", model, "-o", out, "--window", "0.5", "--figure", tmp_path / "t.png")
    assert run(*words, "--page", tmp_path / "t.html")[0] == 0
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    first = content(tmp_path / "t.html")
    assert [len(lane["spans"]) for lane in first["recordings"][0]["lanes"]] == [6]
    if output.endswith((".csv", ".jsonl", ".parquet")):  # made of the table that is finished
        run(*words, "--page", tmp_path / "again.html")
        assert content(tmp_path / "again.html")["rows"] == first["rows"]


def content(page: Path) -> dict[str, Any]:
    """Returns what the script of a page knows."""
    [found] = re.findall(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    loaded: dict[str, Any] = json.loads(found)
    return loaded


def test_a_figure_is_of_one_recording_in_windows(model: Path, folder: Path, tmp_path: Path) -> None:
    figure = ("-m", model, "--figure", tmp_path / "t.png")
    with pytest.raises(AffettoError, match="name --window too"):
        run(folder / "5.flac", *figure)
    for sources in ([folder], [folder / "4.flac", folder / "5.flac"]):
        with pytest.raises(AffettoError, match="a figure shows one recording"):
            run(*sources, *figure, "--window", "0.5")
    (tmp_path / "mine.csv").write_text("file,warning,error\n5.flac,,\n")
    with pytest.raises(AffettoError, match="no predictions of this recogniser"):
        run(folder / "5.flac", *figure, "--window", "0.5", "-o", tmp_path / "mine.csv")
    (folder / "5.flac").write_bytes(b"")
    assert run(folder / "5.flac", *figure, "--window", "0.5")[0] == 1
    assert not (tmp_path / "t.png").exists()


def test_a_bad_file_is_a_row_and_the_exit_code_is_one(model: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "3.flac").write_bytes(b"")
    for _ in range(2):  # the second time there is nothing left to do, and still something wrong
        code, _, said = run(folder, "-m", model, "-o", tmp_path / "out.csv")
        assert code == 1
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["error"].notna().tolist() == [False] * 3 + [True] + [False] * 2
    assert said


def test_enrolment_from_files_and_by_speaker(model: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for name in ("0.flac", "1.flac"):
        (folder / name).rename(tmp_path / "own" / name)
    run(
        folder,
        "-m",
        model,
        "-o",
        tmp_path / "a.csv",
        "--enrol",
        tmp_path / "own",
        "--enrol",
        folder / "2.flac",
    )
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["enrolled"].tolist() == [True, False, False, False]
    assert table["enrolment"].tolist() == [3] * 4
    speakers = pd.DataFrame({"file": [f"{number}.flac" for number in range(2, 6)], "speaker": list("xxxy")})
    Manifest(speakers, {"": folder}).write(tmp_path / "list.csv")
    words = (tmp_path / "list.csv", "-m", model, "--enrol-by-speaker", "2", "-o")
    _, _, errors = run(*words, tmp_path / "b.parquet")
    assert "1 speakers were enrolled; 1 with too few utterances were not\n" in errors
    table = pd.read_parquet(tmp_path / "b.parquet")
    assert table["enrolled"].sum() == 2
    assert table["enrolment"].tolist() == [2, 2, 2, 0]
    assert table["label"].notna().sum() == 2
    Manifest(speakers[:3], {"": folder}).write(tmp_path / "list.csv")
    assert "1 speakers were enrolled\n" in run(*words, tmp_path / "c.csv")[2]
    Manifest(speakers.assign(speaker=None, corpus="ours"), {"ours": folder}).write(tmp_path / "list.csv")
    words = (tmp_path / "list.csv", "-m", model, "--enrol-by-speaker")
    run(*words, "all", "-o", tmp_path / "d.csv")  # the corpus as one speaker, and everybody is scored
    table = pd.read_csv(tmp_path / "d.csv")
    assert table["enrolment"].tolist() == [4] * 4
    assert not table["enrolled"].any()
    assert table["label"].notna().all()
    with pytest.raises(AffettoError, match="got --enrol-by-speaker most; a number of utterances, or all"):
        run(*words, "most", "-o", tmp_path / "e.csv")


def test_a_full_standard_output_is_one_line_and_exit_code_two(model: Path, folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "affetto", "predict", str(folder), "-m", str(model)]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert "cannot write to standard output: No space left" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_recogniser_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AffettoError, match="no such folder"):
        run(folder, "-m", tmp_path / "absent")


def test_without_a_recogniser_it_is_the_small_one(folder: Path, tmp_path: Path) -> None:
    code, shown, said = run(folder / "0.flac")
    assert code == 0
    assert shown.startswith("file,start,end,label,confidence,p_anger,p_disgust,")
    line = said.splitlines()[0]
    assert line.startswith("recogniser small, made from CREMA-D")
    assert "it tells anger, disgust, fear, happiness, neutral, sadness; name another with -m" in line
    assert "recogniser small" not in run(folder / "0.flac", "-m", "small")[2]
    out = tmp_path / "vectors.npy"
    done = CliRunner().invoke(app, ["embed", str(folder), "-o", str(out)])
    assert done.exit_code == 0
    assert "name another with -e" in done.stderr
    assert np.load(out).shape == (6, 1024)
