import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from affetto.corpora import checks, scan, toy
from affetto.corpora.manifest import Manifest

Record = Callable[..., Path]


def table(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["file", "speaker", "emotion"])
    return made.assign(
        gender=["male" if speaker == "1" else "female" for speaker in made["speaker"]], corpus="c"
    )


def test_each_kind_of_problem_is_found_and_names_its_row(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "good.wav", 200)
    record(tmp_path / "again.flac", 200)
    record(tmp_path / "other.wav", 200)
    record(tmp_path / "someone.wav", 200)
    record(tmp_path / "silent.wav", 0)
    record(tmp_path / "quiet.wav", 300, level=0.01)
    record(tmp_path / "loud.wav", 400, level=3)
    record(tmp_path / "full.wav", 500, level=0.99)
    (tmp_path / "broken.wav").write_bytes(b"not audio at all")
    manifest = Manifest(
        table(
            [
                ("good.wav", "1", "anger"),
                ("again.flac", "1", "anger"),
                ("other.wav", "1", "fear"),
                ("someone.wav", "2", "anger"),
                ("silent.wav", "1", "anger"),
                ("quiet.wav", "1", "anger"),
                ("loud.wav", "1", "anger"),
                ("full.wav", "1", "anger"),
                ("broken.wav", "1", "anger"),
                ("absent.wav", "1", "anger"),
                ("../outside.wav", "1", "anger"),
            ]
        ),
        {"c": tmp_path},
    )
    found = manifest.problems()
    assert [(problem.key, problem.kind) for problem in found] == [
        ("again", "duplicate"),
        ("other", "contradictory"),
        ("someone", "contradictory"),
        ("silent", "silent"),
        ("loud", "clipped"),
        ("broken", "unreadable"),
        ("absent", "unreadable"),
        ("../outside", "outside"),
    ]
    assert "same samples as good; emotion anger there, fear here" in found[1].message
    assert "speaker 1 there, 2 here" in found[2].message
    assert "broken.wav" in found[5].message


def test_parts_of_one_file_are_no_duplicates(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav", 200.7, seconds=1)
    parts = table([("a.wav", "1", "anger")] * 2).assign(start=[0.0, 0.5], end=[0.5, 1.0])
    assert Manifest(parts, {"c": tmp_path}).problems() == []
    twice = parts.assign(key=["x", "y"], start=[0.0, 0.0], end=[0.5, 0.5])
    assert [problem.kind for problem in Manifest(twice, {"c": tmp_path}).problems()] == ["duplicate"]


def test_describe_counts_hours_classes_and_rates(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav", seconds=1.8, rate=8000)
    record(tmp_path / "b.wav", seconds=3.6)
    rows = table(
        [("a.wav", "1", "anger"), ("b.wav", "2", "fear"), ("b.wav", "2", "fear"), ("absent.wav", "2", "fear")]
    )
    rows["start"], rows["end"] = [None, 0.0, 1.8, None], [None, 1.8, None, None]
    text = Manifest(rows.assign(votes_anger=1), {"c": tmp_path}).describe()
    assert "4 utterances, 0.00 hours, 2 speakers, c" in text
    assert "sample rates: 8000 Hz (1), 16000 Hz (2)" in text
    assert "unreadable: 1" in text
    assert "votes: 4 utterances, votes_anger" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["emotion", "female", "male", "all"] in lines
    assert ["fear", "3", "0", "3"] in lines
    assert ["all", "3", "1", "4"] in lines
    assert ["speakers", "1", "1", "2"] in lines


def test_describe_adds_up_seconds(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "long.wav", seconds=72, rate=8000)
    rows = table([("long.wav", "1", "anger"), ("long.wav", "1", "anger")]).assign(key=["x", "y"])
    rows["start"] = [None, 36.0]
    assert "2 utterances, 0.03 hours" in Manifest(rows, {"c": tmp_path}).describe()


def test_describe_shows_what_has_no_label(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    text = Manifest(pd.DataFrame({"file": ["a.wav"]}), {"": tmp_path}).describe()
    assert ["(no", "label)", "1", "1"] in [line.split() for line in text.splitlines()]


def test_a_recording_that_kills_its_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = toy.write(tmp_path, speakers=2, sentences=1, takes=1)
    real = checks.decode

    def deadly(path: Path, *part: object, **more: object) -> object:
        if path == manifest.path(3):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, *part, **more)

    monkeypatch.setattr(checks, "decode", deadly)
    monkeypatch.setattr(checks, "can_fork", lambda: True)
    (problem,) = manifest.problems()
    assert (problem.key, problem.kind) == (manifest.keys[3], "unreadable")
    assert "was killed from outside" in problem.message


def test_odd_headers_and_channels_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 1))
    soundfile.write(tmp_path / "opposite.wav", noise * [1, -0.99], 16_000)
    soundfile.write(tmp_path / "dead.wav", noise * [[0.5, 0]], 16_000)
    soundfile.write(tmp_path / "both.wav", noise * [[0.2, 0.2]], 16_000)
    soundfile.write(tmp_path / "streamed.wav", noise * 0.3, 16_000)
    raw = bytearray((tmp_path / "streamed.wav").read_bytes())
    raw[40:44] = b"\xff\xff\xff\x7f"
    (tmp_path / "streamed.wav").write_bytes(raw)
    manifest = scan("table", tmp_path)
    found = {problem.key: (problem.kind, problem.message) for problem in manifest.problems()}
    assert found == {
        "dead": ("channels", "of 2 channels, those that are silent are left out: 2"),
        "opposite": ("channels", "the channels cancel each other out; channel 1 is taken alone"),
        "streamed": (
            "header",
            "its header counts 2147483647 bytes of sound, and there are 32000, which were read",
        ),
    }
    assert "1 recordings have a header" in manifest.notes[-1]
    assert "streamed.wav" in manifest.notes[-1]
