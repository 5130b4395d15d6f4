"""A recogniser reads whatever it is given, however it is given, and loses little when it is stopped."""

import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError, AudioError, CheckpointError, ConfigError, RunError
from affetto.finetuning.run import save_recogniser
from affetto.inference import Enrolment, Recogniser, pipeline, predict, writers
from affetto.inference.embedding import vectors_of_clips
from affetto.inference.loading import load_representation
from affetto.inference.pipeline import Plan
from affetto.inference.sources import Clip, Piece, Samples, clips
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings
from affetto.models.logmel import CnnSettings
from affetto.runs import locked
from helpers import recogniser_config

LABELS = ("anger", "neutral", "sadness")
PROBABILITIES = [f"p_{label}" for label in LABELS]
SAID = ["withheld", "warning", "error"]
RATE = 16_000


def voice(seconds: float, hertz: float = 200.0, rate: int = RATE, seed: int = 0) -> NDArray[np.float32]:
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(times))
    return (0.2 * np.sin(2 * np.pi * hertz * times * (1 + 0.1 * times)) + 0.02 * noise).astype(np.float32)


def make_recogniser(folder: Path, enrolment: bool = True, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    embedder = NetworkSettings(encoder=CnnSettings(width=16, bins=16, blocks=1))
    classifier = EmotionClassifier(ClassifierSettings(embedder=embedder, labels=LABELS, enrolment=enrolment))
    with torch.no_grad():  # far enough from uniform for differences to show
        classifier.head.get_submodule("linear").get_parameter("weight").mul_(4)
        if classifier.enrolment is not None:
            for name, buffer in classifier.enrolment.named_buffers():
                if name == "class_offsets":
                    buffer.copy_(torch.randn_like(buffer))
    save_recogniser(folder, classifier, recogniser_config(classifier))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recogniser(tmp_path_factory.mktemp("model") / "recogniser")


@pytest.fixture(scope="module")
def recogniser(model: Path) -> Recogniser:
    return Recogniser.from_pretrained(model, any_sound=True)  # what is heard here is no speech


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve recordings of all lengths, two in a folder below."""
    root = tmp_path / "audio"
    (root / "below").mkdir(parents=True)
    for number in range(12):
        place = root / "below" if number > 9 else root
        samples = voice(0.2 + 0.31 * number, 120 + 20 * number, seed=number)
        soundfile.write(place / f"{number:02d}.{'flac' if number % 2 else 'wav'}", samples, RATE)
    return root


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    table = pd.DataFrame({"file": files, "speaker": ["a"] * 6 + ["b"] * 5 + [None], "corpus": "mine"})
    return Manifest(table, {"mine": folder})


def alone(recogniser: Recogniser, path: str) -> list[float]:
    by_label = {score["label"]: score["score"] for score in recogniser.from_file(path)}
    return [by_label[label] for label in LABELS]


# what it gives


def test_one_recording_gives_every_class_sorted(recogniser: Recogniser, folder: Path) -> None:
    scores = recogniser.predict(folder / "05.flac")
    assert isinstance(scores, list)
    assert {score["label"] for score in scores} == set(LABELS)
    values = [score["score"] for score in scores]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)


def test_every_way_to_name_a_recording_gives_the_same(recogniser: Recogniser, folder: Path) -> None:
    path = folder / "05.flac"
    samples, _ = soundfile.read(path, dtype="float32")
    expected = recogniser.from_file(path)
    with open(path, "rb") as handle:
        others = [
            recogniser.predict(str(path)),
            recogniser.predict(path.read_bytes()),
            recogniser.predict(handle),
            recogniser.predict(samples, RATE),
            recogniser.predict((samples, RATE)),
            recogniser.from_audio(np.stack([samples, samples])),
        ]
    for other in others:
        assert [score["label"] for score in other] == [score["label"] for score in expected]
        np.testing.assert_allclose([s["score"] for s in other], [s["score"] for s in expected], atol=1e-6)


def test_several_give_a_table_in_order(recogniser: Recogniser, folder: Path, manifest: Manifest) -> None:
    table = recogniser.predict(folder)
    assert isinstance(table, pd.DataFrame)
    assert list(table) == ["file", "start", "end", "label", "confidence", *PROBABILITIES, *SAID]
    assert table["file"].tolist() == [
        *map(str, sorted(folder.glob("*.*"))),
        *map(str, sorted(folder.glob("*/*"))),
    ]
    assert table["end"].iloc[5] == pytest.approx(0.2 + 0.31 * 5, abs=1e-3)
    np.testing.assert_allclose(table[PROBABILITIES].sum(axis=1), 1, atol=1e-5)
    assert (table[PROBABILITIES].idxmax(axis=1) == "p_" + table["label"]).all()
    manifest.write(folder.parent / "m.csv")
    for source in (manifest, folder.parent / "m.csv", [folder / "00.wav", manifest.where(["01"])]):
        other = recogniser.predict(source)
        assert isinstance(other, pd.DataFrame)
        np.testing.assert_allclose(other["confidence"][:2], table["confidence"][:2], atol=1e-6)


def test_batch_mates_change_nothing(recogniser: Recogniser, folder: Path) -> None:
    together = recogniser.predict(folder)
    assert isinstance(together, pd.DataFrame)
    one_by_one = [alone(recogniser, path) for path in together["file"]]
    np.testing.assert_allclose(together[PROBABILITIES], one_by_one, atol=1e-5)
    assert np.ptp(together[PROBABILITIES], axis=0).max() > 0.05  # they differ from one another by far more


def test_no_bit_depends_on_what_is_computed_together(recogniser: Recogniser, corpus: Manifest) -> None:
    models = [load_representation(name, None, [], "cpu") for name in ("small", "functionals", "ge2e")]
    everything = list(clips(corpus))

    def answers(some: list[Clip], workers: int) -> dict[str, list[NDArray[Any]]]:
        plan, found = Plan(workers=workers), defaultdict[str, list[NDArray[Any]]](list)
        for model in models:
            for piece, vector in vectors_of_clips(model, some, plan):
                assert vector is not None
                found[piece.clip.key].append(vector)
        for piece, row in recogniser.rows(some, plan, None):
            found[piece.clip.key].append(np.array([row[name] for name in PROBABILITIES]))
        return found

    expected = answers(everything, 1)
    for some, workers in ((everything[::-7], 2), (everything[5:6], 1), (everything[3:40:4], 1)):
        for key, vectors in answers(some, workers).items():
            assert all(map(np.array_equal, vectors, expected[key]))


def test_a_part_of_a_recording(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = voice(4)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    expected = recogniser.from_audio(samples[RATE : 3 * RATE])
    assert recogniser.from_file(tmp_path / "a.wav", 1.0, 3.0) == expected
    table = pd.DataFrame({"key": ["x"], "file": ["a.wav"], "start": [1.0], "end": [3.0]})
    row = next(recogniser.files(Manifest(table, {"": tmp_path})))
    assert (row["start"], row["end"], row["label"]) == (1.0, 3.0, expected[0]["label"])


def test_what_is_no_source_is_refused(recogniser: Recogniser, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got int"):
        recogniser.predict([3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="needs its rate"):
        recogniser.predict(np.zeros(10))
    with pytest.raises(AudioError, match="no recording"):
        recogniser.predict(tmp_path)


# bad and odd recordings


def write_odd(folder: Path) -> dict[str, str]:
    """Writes odd recordings; returns a word of each one's error, "" for those that must be scored."""
    folder.mkdir()
    soundfile.write(folder / "whole.wav", voice(1), RATE)
    whole = (folder / "whole.wav").read_bytes()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "text.wav").write_text("not audio at all\n" * 50)
    soundfile.write(folder / "nan.wav", np.where(np.arange(RATE) == 7, np.nan, 0.1), RATE, subtype="FLOAT")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(
        folder / "telephone.wav", np.stack([voice(1, rate=8000)] * 2, axis=1), 8000, subtype="FLOAT"
    )
    soundfile.write(folder / "studio.wav", voice(1, rate=96_000), 96_000, subtype="PCM_24")
    soundfile.write(folder / "sample.wav", np.array([0.1]), RATE)
    return {
        "empty": "empty (0 bytes)",
        "truncated": "truncated",
        "text": "not audio",
        "nan": "NaN",
        "none": "no samples",
        "silent": "",
        "telephone": "",
        "studio": "",
        "sample": "",
        "whole": "",
    }


def test_bad_recordings_are_rows_and_odd_ones_are_scored(recogniser: Recogniser, tmp_path: Path) -> None:
    words = write_odd(tmp_path / "odd")
    table = recogniser.predict([tmp_path / "odd", tmp_path / "absent.wav"])
    assert isinstance(table, pd.DataFrame)
    words["absent"] = "no such file"
    assert len(table) == len(words)
    for row in table.to_dict("records"):
        word = words[Path(row["file"]).stem]
        if word:
            assert word in row["error"]
            assert pd.isna(row["label"])
            assert np.isnan(row["p_anger"])
            with pytest.raises(AudioError, match=word.replace("(", r"\(").replace(")", r"\)")):
                recogniser.predict(row["file"])
        else:
            assert pd.isna(row["error"])
            assert np.isfinite([row[name] for name in PROBABILITIES]).all()
            np.testing.assert_allclose(
                alone(recogniser, row["file"]), [row[name] for name in PROBABILITIES], atol=1e-5
            )


def test_a_file_outside_the_root_is_a_row(recogniser: Recogniser, folder: Path) -> None:
    table = pd.DataFrame({"file": ["../../secret.wav", "00.wav"]})
    rows = list(recogniser.files(Manifest(table, {"": folder})))
    assert "outside" in rows[0]["error"]
    assert rows[1]["error"] is None


def test_a_long_recording_is_the_mean_of_its_parts(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = voice(75)
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    parts = [recogniser.from_audio(samples[start * RATE : (start + 30) * RATE]) for start in (0, 30, 60)]
    for label, value in zip(LABELS, alone(recogniser, str(tmp_path / "long.wav")), strict=True):
        scores = [next(s["score"] for s in part if s["label"] == label) for part in parts]
        assert value == pytest.approx(np.average(scores, weights=[30, 30, 15]), abs=1e-5)
    row = next(recogniser.files([tmp_path / "long.wav"]))
    assert (row["start"], row["end"]) == (0.0, 75.0)
    assert row["confidence"] == pytest.approx(recogniser.predict(tmp_path / "long.wav")[0]["score"], abs=1e-5)


def test_a_long_recording_that_breaks_off_is_an_error(recogniser: Recogniser, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.flac", voice(90), RATE)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: int(len(data) * 0.8)])
    rows = list(recogniser.files([tmp_path / "cut.flac", tmp_path / "whole.flac"]))
    assert [row["label"] is None for row in rows] == [True, False]
    assert "truncated" in rows[0]["error"]
    over_time = list(recogniser.files([tmp_path / "cut.flac"], window=10, hop=10))
    assert [bool(row["error"]) for row in over_time] == [False] * (len(over_time) - 1) + [True]
    assert len(over_time) > 4
    with pytest.raises(AudioError, match="truncated"):
        recogniser.timeline(tmp_path / "cut.flac", 10, 10)


# timelines


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, [0.5]), (2.0, [2.0]), (4.4, [2.0, 3.0, 4.0, 4.4])])
def test_a_timeline_has_a_row_a_window(
    recogniser: Recogniser, tmp_path: Path, seconds: float, expected: list[float]
) -> None:
    samples = voice(seconds)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    table = recogniser.timeline(tmp_path / "a.wav", 2.0, 1.0)
    assert table["end"].tolist() == pytest.approx(expected)
    assert table["start"].tolist() == [float(number) for number in range(len(expected))]
    for row in table.to_dict("records"):
        scores = recogniser.from_audio(samples[round(row["start"] * RATE) : round(row["end"] * RATE)])
        assert scores[0]["label"] == row["label"]
        assert scores[0]["score"] == pytest.approx(row["confidence"], abs=1e-5)


def test_an_hour_takes_the_memory_of_minutes(model: Path, tmp_path: Path) -> None:
    minute = (voice(60) * 32767).astype(np.int16)
    for minutes in (3, 60):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", RATE, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
    code = (
        "import sys, resource; from affetto import Recogniser\n"
        "r = Recogniser.from_pretrained(sys.argv[1], any_sound=True)\n"
        "rows = list(r.files([sys.argv[2]], window=20, hop=20, workers=1))\n"
        "print(len(rows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    made = []
    for minutes in (3, 60):
        command = [sys.executable, "-c", code, str(model), str(tmp_path / f"{minutes}.wav")]
        made.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert [int(count) for count, _ in made] == [9, 180]
    assert int(made[1][1]) - int(made[0][1]) < 200_000  # KiB; the hour alone is 225,000 as float32


BY_PROCESSES = """
import os, signal, sys
from affetto import Recogniser, parallel
from affetto.inference import pipeline, predict
pipeline.GROUP_CLIPS = 3
real, used, decoded = parallel.copies, [], pipeline.decoded
parallel.copies = lambda *given: used.append(given) or real(*given)
def deadly(clip):
    if clip.file.endswith(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return decoded(clip)
if len(sys.argv) > 4:
    pipeline.decoded = deadly
recogniser = Recogniser.from_pretrained(sys.argv[1], any_sound=True)
outcome = predict(recogniser, sys.argv[2].split(os.pathsep), sys.argv[3], workers=2)
print(len(used), outcome.clips, outcome.failed, outcome.resumed)
"""


def by_processes(*given: object) -> str:
    command = [sys.executable, "-c", BY_PROCESSES, *map(str, given)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_processes_give_what_threads_give(
    model: Path, recogniser: Recogniser, folder: Path, tmp_path: Path
) -> None:
    write_odd(tmp_path / "odd")
    for name, seconds in (("long", 70), ("longer", 150)):
        soundfile.write(tmp_path / "odd" / f"{name}.wav", voice(seconds), RATE)
    sources = [folder, tmp_path / "odd"]
    said = by_processes(model, os.pathsep.join(map(str, sources)), tmp_path / "many.csv")
    assert said == "1 24 5 0\n"
    predict(recogniser, sources, tmp_path / "few.csv", workers=1)
    many, few = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("many", "few"))
    pd.testing.assert_frame_equal(many, few, atol=1e-5)
    assert many["error"].notna().sum() == 5


def test_a_recording_that_kills_its_process_is_a_row(
    model: Path, recogniser: Recogniser, folder: Path, tmp_path: Path
) -> None:
    predict(recogniser, folder, tmp_path / "whole.csv", workers=1)
    said = by_processes(model, folder, tmp_path / "killed.csv", "/08.wav")
    assert said.split()[1:] == ["12", "1", "0"]
    whole, killed = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("whole", "killed"))
    (place,) = np.flatnonzero(killed["file"].str.endswith("/08.wav"))
    assert "the process that read it was killed" in killed["error"][place]
    numbers = ["start", "end", *PROBABILITIES]
    pd.testing.assert_frame_equal(
        whole[numbers].drop(index=place), killed[numbers].drop(index=place), atol=1e-5
    )
    assert killed["error"].notna().sum() == 1


@pytest.mark.parametrize("where", ["decoded", "computed"])
def test_a_recording_that_does_not_fit_in_memory_is_a_row(
    where: str, recogniser: Recogniser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = recogniser.predict(folder)
    decoded, answers = pipeline.decoded, recogniser._answers

    def decode_less(clip: Clip) -> Samples:
        if clip.file.endswith("/03.flac"):
            raise MemoryError
        return decoded(clip)

    def compute_less(pieces: list[Piece], **given: Any) -> torch.Tensor:
        if any(piece.clip.file.endswith("/03.flac") for piece in pieces):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
        return answers(pieces, **given)

    if where == "decoded":
        monkeypatch.setattr(pipeline, "decoded", decode_less)
    else:
        monkeypatch.setattr(recogniser, "_answers", compute_less)
    table = recogniser.predict(folder)
    assert isinstance(table, pd.DataFrame)
    assert isinstance(expected, pd.DataFrame)
    assert re.search("03.flac: .*(MemoryError|not enough memory)", table["error"][3])
    numbers = ["start", "end", *PROBABILITIES]
    pd.testing.assert_frame_equal(table[numbers].drop(index=3), expected[numbers].drop(index=3), atol=1e-5)


def test_what_was_odd_about_a_recording_is_in_its_row(
    recogniser: Recogniser, folder: Path, tmp_path: Path
) -> None:
    sound, rate = soundfile.read(folder / "04.wav", dtype="int16")
    soundfile.write(tmp_path / "dead.wav", np.stack([0 * sound, sound], axis=1), rate)
    streamed = bytearray((folder / "04.wav").read_bytes())
    streamed[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(streamed)
    files = [folder / "04.wav", tmp_path / "dead.wav", tmp_path / "streamed.wav"]
    outcome = predict(recogniser, files, tmp_path / "out.csv", window=0.5)
    assert (outcome.failed, outcome.warned) == (0, 2)
    table = pd.read_csv(tmp_path / "out.csv").set_index("file")
    warnings = [set(table["warning"].fillna("")[str(file)]) for file in files]
    assert warnings[0] == {""}
    assert warnings[1] == {"of 2 channels, those that are silent are left out: 1"}
    assert all("its header counts 4294967295 bytes" in text for text in warnings[2])
    for column in ("start", "end", "p_anger"):
        first, *others = (table[column][str(file)].to_numpy() for file in files)
        for other in others:
            np.testing.assert_allclose(other, first, atol=2e-6)


@pytest.mark.parametrize("seconds", [1.0, 70.0])
def test_a_channel_is_read_alone(recogniser: Recogniser, tmp_path: Path, seconds: float) -> None:
    left, right = voice(seconds, 150, seed=1), voice(seconds, 300, seed=2)
    for name, samples in (("left", left), ("right", right), ("both", np.stack([left, right], axis=1))):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    both = tmp_path / "both.wav"
    for channel, name in enumerate(("left", "right"), 1):
        expected = alone(recogniser, str(tmp_path / f"{name}.wav"))
        (row,) = recogniser.files([both], channel=channel)
        np.testing.assert_allclose([row[name] for name in PROBABILITIES], expected, atol=1e-6)
        assert row["warning"] is None
    (row,) = recogniser.files([both], channel=3)
    assert "got channel 3 of a recording with 2" in row["error"]
    for channel, samples in ((1, left), (2, right)):
        scores = recogniser.predict(np.stack([left, right]), RATE, channel=channel)
        assert scores == recogniser.from_audio(samples)
    predict(recogniser, [both], tmp_path / "out.csv", channel=2, page=tmp_path / "page.html")
    assert pd.read_csv(tmp_path / "out.csv")["p_anger"][0] == pytest.approx(expected[0], abs=1e-5)


def test_hop_and_window_must_fit(recogniser: Recogniser, folder: Path) -> None:
    with pytest.raises(ConfigError, match="without a window"):
        list(recogniser.files(folder, hop=1))
    with pytest.raises(ConfigError, match="at most a window"):
        recogniser.timeline(folder / "00.wav", 1, 2)
    with pytest.raises(ConfigError, match="one recording"):
        recogniser.timeline(folder)


# enrolment


def test_enrolment_adapts_as_the_classifier_does(recogniser: Recogniser, folder: Path) -> None:
    paths = sorted(folder.glob("*.*"))
    enrolment = recogniser.enrol(paths[:4])
    assert enrolment.utterances == 4
    vectors = recogniser.embed(paths)
    with torch.no_grad():
        offset = recogniser.classifier.offset(vectors[:4])
        expected = recogniser.classifier.answers(vectors[4:], offset).max(dim=1).values
    torch.testing.assert_close(enrolment.offset, offset, atol=1e-5, rtol=1e-5)
    table = recogniser.predict(paths, enrolment=enrolment)
    assert isinstance(table, pd.DataFrame)
    assert table["enrolled"].tolist() == [True] * 4 + [False] * 6
    assert table["label"].isna().tolist() == table["enrolled"].tolist()
    assert table["error"].isna().all()
    np.testing.assert_allclose(table["confidence"][4:], expected, atol=1e-5)
    single = recogniser.predict(paths[5], enrolment=enrolment)
    assert isinstance(single, list)
    assert single[0]["score"] == pytest.approx(float(expected[1]), abs=1e-5)
    assert abs(single[0]["score"] - recogniser.from_file(paths[5])[0]["score"]) > 1e-3
    from_vectors = recogniser.enrol(vectors[:4])
    torch.testing.assert_close(from_vectors.offset, enrolment.offset, atol=1e-5, rtol=1e-5)
    assert len(recogniser.timeline(paths[9], 1.0, 0.5, enrolment=enrolment)["enrolment"].unique()) == 1


def test_by_speaker_exactly_so_many_are_not_scored(
    recogniser: Recogniser, manifest: Manifest, folder: Path
) -> None:
    (folder / "02.wav").write_bytes(b"broken")
    table = recogniser.predict(manifest, enrolment=4)
    assert isinstance(table, pd.DataFrame)
    by_speaker = table.groupby(manifest.table["speaker"].fillna("nobody"))
    assert by_speaker["enrolled"].sum().to_dict() == {"a": 4, "b": 4, "nobody": 0}
    assert by_speaker["enrolment"].max().to_dict() == {"a": 4, "b": 4, "nobody": 0}
    assert not table["enrolled"][2]
    assert "not audio" in table["error"][2]
    assert table["label"].notna().sum() == 12 - 8 - 1
    pd.testing.assert_frame_equal(table, recogniser.predict(manifest, enrolment=4))
    nobody = table.iloc[11]
    assert nobody["confidence"] == pytest.approx(
        recogniser.predict(folder / manifest.table["file"][11])[0]["score"]
    )


def test_a_speaker_with_nothing_left_to_score_is_not_enrolled(
    recogniser: Recogniser, manifest: Manifest
) -> None:
    table = recogniser.predict(manifest, enrolment=5)
    assert isinstance(table, pd.DataFrame)
    assert table["enrolled"].sum() == 5
    assert set(table["enrolment"][manifest.table["speaker"] == "b"]) == {0}
    assert table["label"].notna().sum() == 7


def test_enrolment_needs_a_recogniser_and_speakers(
    recogniser: Recogniser, folder: Path, tmp_path: Path
) -> None:
    plain = Recogniser.from_pretrained(make_recogniser(tmp_path / "plain", enrolment=False), any_sound=True)
    with pytest.raises(ConfigError, match="without enrolment"):
        plain.enrol(folder)
    with pytest.raises(ConfigError, match="without enrolment"):
        plain.predict(folder / "00.wav", enrolment=Enrolment(torch.zeros(6), 1))
    with pytest.raises(ConfigError, match="speaker"):
        recogniser.predict(folder, enrolment=3)
    with pytest.raises(ConfigError, match="enrol\\(\\)"):
        recogniser.predict(folder / "00.wav", enrolment=3)
    (folder / "00.wav").write_bytes(b"")
    with pytest.raises(AudioError, match="empty"):
        recogniser.enrol(folder)


# recogniser folders


def copied(model: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (target / name).write_bytes((model / name).read_bytes())
    return target


def test_a_missing_or_surplus_tensor_is_refused(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="surplus: extra"):
        Recogniser.from_pretrained(folder)
    del tensors["temperature"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing: temperature"):
        Recogniser.from_pretrained(folder)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_in_place_of_the_weights_is_never_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    folder = copied(model, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="never loaded"):
        Recogniser.from_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        Recogniser.from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, r"holds no config\.json"),
        ({"class": "SpeakerEncoder"}, "unknown class 'SpeakerEncoder'"),
        ({"classifier": None}, "lacks the group 'classifier'"),
        ({"classifier": {"labels": LABELS, "enrolmnet": True}}, "did you mean 'enrolment'"),
        ({"labels": ["x", "y", "z"]}, "labels twice"),
    ],
)
def test_a_config_that_is_missing_or_foreign_is_refused(
    model: Path, tmp_path: Path, change: dict[str, object] | None, words: str
) -> None:
    folder = copied(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    if change is not None:
        (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=words):
        Recogniser.from_pretrained(folder)


def test_a_name_that_is_no_folder_is_looked_for_on_the_hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert Recogniser.from_pretrained("someone/emotions", revision="v1").labels == list(LABELS)
    assert asked["name"] == "someone/emotions"
    assert asked["revision"] == "v1"
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "README.md", "text/*"]
    for name in (tmp_path / "absent", "./absent", "absent", "a/b/c"):
        with pytest.raises(CheckpointError, match="no such folder"):
            Recogniser.from_pretrained(name)


def test_an_unreachable_hub_is_said_so(tmp_path: Path) -> None:
    code = (
        "from affetto import AffettoError, Recogniser\n"
        "try: Recogniser.from_pretrained('someone/emotions')\n"
        "except AffettoError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert "cannot be fetched from the Hugging Face hub" in said.stdout
    assert "check the name and the connection" in said.stdout


# tables on disk


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_the_table_on_disk_is_the_table_in_memory(recogniser: Recogniser, folder: Path, name: str) -> None:
    (folder / "03.flac").write_bytes(b"fLaC?")
    out = folder.parent / "new" / name
    assert predict(recogniser, folder, out)[:4] == (12, 1, 0, False)
    expected = recogniser.predict(folder)
    assert isinstance(expected, pd.DataFrame)
    table = read(out)
    assert list(table) == list(expected)
    assert table["file"].tolist() == expected["file"].tolist()
    np.testing.assert_allclose(table[PROBABILITIES], expected[PROBABILITIES].astype(float), atol=2e-6)
    assert "not audio" in table["error"][3]
    assert [path.name for path in out.parent.iterdir()] == [name]
    before = out.read_bytes()
    assert predict(recogniser, folder, out)[:4] == (12, 1, 12, True)
    assert out.read_bytes() == before


class Stopped(Exception):
    """Stands for a process that ends."""


def stop_after(clips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add = writers.Shards.add
    seen = []

    def counting(self: writers.Shards, name: str, row: dict[str, Any], last: bool = True) -> None:
        if len(seen) == clips:
            raise Stopped
        seen.append(name)
        add(self, name, row, last)

    monkeypatch.setattr(writers.Shards, "add", counting)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("window", [None, 0.5])
def test_a_stopped_output_is_taken_up_again(
    recogniser: Recogniser, folder: Path, name: str, window: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = folder.parent / f"whole-{name}", folder.parent / name
    sources = [folder, folder / "01.flac"]  # one of them twice
    predict(recogniser, sources, whole, window=window)
    monkeypatch.setattr(writers, "SHARD_CLIPS", 2)
    with monkeypatch.context() as patch:
        stop_after(7 if window is None else 20, patch)
        with pytest.raises(Stopped):
            predict(recogniser, sources, out, window=window)
    part = out.with_name(f"{name}.part")
    (part / ".part-00007.parquet.123.part").write_bytes(b"PAR1 half a sh")  # a write that was cut short
    outcome = predict(recogniser, sources, out, window=window)
    assert outcome.clips == 13
    assert outcome.resumed >= 2
    assert not part.exists()
    if name.endswith("parquet"):
        pd.testing.assert_frame_equal(read(out), read(whole))
    else:
        assert out.read_bytes() == whole.read_bytes()


def test_another_recogniser_or_option_does_not_go_on(
    recogniser: Recogniser, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            predict(recogniser, folder, out)
    with pytest.raises(RunError, match=r"other options \(window\)"):
        predict(recogniser, folder, out, window=2.0)
    other = Recogniser.from_pretrained(make_recogniser(tmp_path / "other", seed=3), any_sound=True)
    with pytest.raises(RunError, match=r"other options \(recogniser\)"):
        predict(other, folder, out)
    with locked(out, tmp_path / "out.csv.part" / "lock"), pytest.raises(RunError, match="another process"):
        predict(recogniser, folder, out)
    assert predict(recogniser, folder, out).clips == 12


def test_a_killed_process_loses_little(model: Path, folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    short = (folder / "01.flac").read_bytes()
    for number in range(1500):
        (many / f"{number:04d}.flac").write_bytes(short)
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "affetto", "predict", str(many), "-m", str(model), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part = tmp_path / "out.csv.part"
    for _ in range(3000):  # a minute: on a busy machine the start alone takes many seconds
        if len(list(part.glob("part-*.parquet"))) >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    written = len(list(part.glob("part-*.parquet")))
    outcome = predict(Recogniser.from_pretrained(model), many, out)
    assert outcome.clips == 1500
    assert outcome.resumed == 256 * written
    table = pd.read_csv(out)
    assert len(table) == 1500
    assert table["file"].is_unique
    assert table["error"].isna().all()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may pass 20 kB: what a full disk looks like to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_so_and_what_was_written_is_kept(
    recogniser: Recogniser, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(writers, "SHARD_CLIPS", 2)
    out = folder.parent / "o.csv"
    sources = sorted(folder.glob("*.*"))  # of rising length: a shard of the last ones is too large
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    request.getfixturevalue("small_disk")
    with pytest.raises(
        AffettoError, match=r"cannot write .*o\.csv: File too large; .* kept in .*o\.csv\.part: make"
    ):
        predict(recogniser, sources, out, window=0.04, hop=0.02)
    assert not out.exists()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    outcome = predict(recogniser, sources, out, window=0.04, hop=0.02)
    assert outcome.clips == 10
    assert 2 <= outcome.resumed < 10
    assert pd.read_csv(out)["file"].unique().tolist() == list(map(str, sources))


def test_another_suffix_or_two_enrolments_are_refused(recogniser: Recogniser, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.xlsx"):
        predict(recogniser, folder, folder / "out.xlsx")
    with pytest.raises(ConfigError, match="name one"):
        predict(recogniser, folder, folder / "out.csv", enrol=folder, enrol_by_speaker=2)


@pytest.mark.corpora
def test_real_recordings_one_at_a_time_and_together(recogniser: Recogniser, corpora_root: Path) -> None:
    from affetto.corpora.scanning import find_audio

    paths = [
        path for corpus in ("crema-d", "ravdess", "emodb") for path in find_audio(corpora_root / corpus)[:6]
    ]
    table = recogniser.predict(paths)
    assert isinstance(table, pd.DataFrame)
    assert table["error"].isna().all()
    np.testing.assert_allclose(
        table[PROBABILITIES], [alone(recogniser, str(path)) for path in paths], atol=1e-5
    )
