"""Outputs of predict that hold labels: by suffix, stopped, finished, and with recordings that are broken."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from affetto.errors import AudioError, ConfigError, MissingPackageError, RunError
from affetto.inference import Recogniser, predict, writers
from affetto.inference.label_files import SUFFIXES
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings
from affetto.models.logmel import CnnSettings


def made(**more: object) -> Recogniser:
    torch.manual_seed(1)
    embedder = NetworkSettings(encoder=CnnSettings(width=16, bins=16, blocks=1))
    settings = ClassifierSettings(embedder=embedder, **{"labels": ("joy", "grief"), **more})  # type: ignore[arg-type]
    return Recogniser(EmotionClassifier(settings), {}, any_sound=True)


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return made()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    Path("calls").mkdir()
    for name in ("a", "b"):
        soundfile.write(f"calls/{name}.wav", 0.1 * generator.normal(size=24_000), 16_000)
    return Path("calls")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_writes_the_windows_of_a_recording(
    recogniser: Recogniser, folder: Path, suffix: str
) -> None:
    out = Path(f"out{suffix.upper()}")
    done = predict(recogniser, folder / "a.wav", out, window=0.5, hop=0.5)
    assert (done.clips, done.failed) == (1, 0)
    written = "".join(each.read_text() for each in sorted(out.glob("*")) or [out])
    labels = [row["label"] for row in recogniser.files(folder / "a.wav", window=0.5, hop=0.5)]
    assert written.count("joy") + written.count("grief") >= len(labels) == 3
    assert not Path(f"{out}.part").exists()
    with pytest.raises(RunError, match="is there already; remove it to predict anew, or name another"):
        predict(recogniser, folder / "a.wav", out, window=0.5, hop=0.5)


@pytest.mark.parametrize("suffix", [".rttm", ".audformat"])
@pytest.mark.parametrize("last", ["unlink", "rmtree"])
def test_a_run_that_is_killed_once_its_labels_are_written_can_be_run_again(
    recogniser: Recogniser, folder: Path, suffix: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(f"out{suffix}")

    def killed(path: Path, *_: object, **__: object) -> None:
        if path.name in ("options.json", f"{out}.part"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*{"unlink": (Path, "unlink"), "rmtree": (writers.shutil, "rmtree")}[last], killed)
        with pytest.raises(KeyboardInterrupt):
            predict(recogniser, folder, out)
    before = {each.name: each.read_bytes() for each in [out, *out.glob("*")] if each.is_file()}
    assert before
    assert predict(recogniser, folder, out).clips == 2
    assert {each.name: each.read_bytes() for each in [out, *out.glob("*")] if each.is_file()} == before
    assert not list(Path().glob(f"*{out}*.part"))


def test_several_recordings_go_where_the_format_names_them(recogniser: Recogniser, folder: Path) -> None:
    Path("calls/c.wav").write_text("no sound")
    for suffix in SUFFIXES:
        out = Path(f"out{suffix}")
        if suffix in (".rttm", ".json", ".audformat"):
            with pytest.warns(UserWarning, match=f"not in out{suffix}: calls/c.wav: not audio"):
                assert predict(recogniser, folder, out).failed == 1
        else:
            with pytest.raises(ConfigError, match="holds one recording, and got several"):
                predict(recogniser, folder, out)
            assert not list(Path().glob(f"*out{suffix}*"))
    assert [task["data"]["audio"] for task in json.loads(Path("out.json").read_text())] == [
        *["calls/a.wav", "calls/b.wav"]
    ]
    assert [line.split()[1] for line in Path("out.rttm").read_text().splitlines()] == [
        *["calls/a.wav", "calls/b.wav"]
    ]


def test_audformat_is_read_by_its_package(recogniser: Recogniser, folder: Path) -> None:
    audformat = pytest.importorskip("audformat")
    recogniser = recogniser.answering(withhold=0.99)
    with pytest.warns(UserWarning, match="1 rows with the recording and times of another"):
        predict(recogniser, [folder, folder / "a.wav"], "out.audformat")
    table = audformat.Database.load("out.audformat")["emotion"].get()
    rows = list(recogniser.files(folder))
    assert [file for file, *_ in table.index] == [row["file"] for row in rows]
    assert [end.total_seconds() for *_, end in table.index] == [row["end"] for row in rows]
    assert list(table["emotion"]) == ["unknown", "unknown"]
    np.testing.assert_allclose(table["p_joy"], [row["p_joy"] for row in rows], atol=1e-6)
    assert set(table["withheld"]) == {"low confidence"}


def test_without_audformat_the_install_line_comes_first(
    recogniser: Recogniser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[audformat\]'"):
        predict(recogniser, folder, "out.audformat")
    assert not Path("out.audformat.part").exists()


def test_nothing_read_is_an_error_and_leaves_no_file(recogniser: Recogniser, folder: Path) -> None:
    Path("c.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"out.srt was not written, since nothing could be read: c.wav: not"):
        predict(recogniser, "c.wav", "out.srt")
    assert not list(Path().glob("out.srt*"))


def test_dimensions_are_refused_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match="this recogniser predicts dimensions"):
        predict(made(labels=("valence",), output="values"), folder / "a.wav", "out.srt")
    with pytest.raises(ConfigError, match="a page shows probabilities of classes"):
        predict(made(labels=("valence",), output="values"), folder / "a.wav", "out.csv", page="out.html")
    assert not Path("out.srt.part").exists()


def test_a_stopped_run_is_continued(
    recogniser: Recogniser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affetto.inference.writers.SHARD_CLIPS", 1)
    with monkeypatch.context() as patched:
        patched.setattr("affetto.inference.output.write_labels", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(recogniser, folder, "out.rttm")
    assert predict(recogniser, folder, "out.rttm").resumed == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(recogniser, folder, "again.rttm")
    assert Path("out.rttm").read_text() == Path("again.rttm").read_text()


def stop(*_: object) -> None:
    raise KeyboardInterrupt
