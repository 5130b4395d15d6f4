import os
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affetto.corpora import checks, toy
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError

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


def test_a_worker_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = toy.write(tmp_path, speakers=2, sentences=1, takes=1)
    monkeypatch.setattr(checks, "_check", _die)
    monkeypatch.setattr(checks, "can_fork", lambda: True)
    with pytest.raises(ManifestError, match="a process that decoded was stopped from outside"):
        manifest.problems()


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
