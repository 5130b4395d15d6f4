"""annotate intensity, end to end on the toy corpus, whatever the curves come from."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from affetto.audio import decode, to_int16
from affetto.cli import app
from affetto.config import load
from affetto.corpora.arrays import content_hash, vector_places
from affetto.corpora.curves import describe_curves, read_curves
from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError, ConfigError, ManifestError, ProtocolError, RunError
from affetto.features import FrontEnd
from affetto.intensity import run as intensity_run
from affetto.intensity import sources as intensity_sources
from affetto.intensity.network import find_strength_net, load_strength_net
from affetto.intensity.ranker import loudness
from affetto.intensity.run import annotate_intensity
from affetto.intensity.sources import IntensitySettings
from affetto.models.checkpoint import read_config, save_weights
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import FunctionalsSettings
from affetto.models.heads import LinearHead
from affetto.runs import RunFolder

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
SMALL = (
    "ranker.functionals.bins=8",
    "ranker.network.bins=16",
    "ranker.network.width=12",
    "ranker.network.hidden=8",
    "ranker.network.blocks=1",
    "ranker.train.epochs=2",
    "ranker.train.batch_size=16",
)


@pytest.fixture(autouse=True)
def _no_pictures(ranked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest of a run; the run of ``ranked`` is drawn."""
    monkeypatch.setattr(intensity_run, "to_png", lambda figure, dpi=0: b"")


def small(*overrides: str, **values: Any) -> IntensitySettings:
    return load(IntensitySettings, values, (*SMALL, *overrides))


def meta_of(run: RunFolder | Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    return meta


def again(run: RunFolder | Path) -> Manifest:
    return Manifest.read(run / "manifest.csv")


@pytest.fixture(scope="session")
def ranked(listed: Path, protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the source ranker, one fold: trained on f01 f02 m01 m02, chosen on m03."""
    out = tmp_path_factory.mktemp("ranked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFETTO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        annotate_intensity(listed, small(protocol=str(protocol)), out)
    return out


def recogniser(folder: Path, labels: tuple[str, ...] = LABELS, **config: Any) -> Path:
    """A recogniser that was never trained."""
    shape = ClassifierSettings(embedder=FunctionalsSettings(bins=8), labels=labels)
    classifier = EmotionClassifier(shape)
    assert isinstance(classifier.head, LinearHead)
    described = {"class": "EmotionClassifier", "classifier": shape.model_dump(mode="json"), **config}
    save_weights(folder, classifier, described)
    return folder


def test_loudness_is_the_level_of_the_frames_within_the_corpus(
    corpus: Manifest, listed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["annotate", "intensity", str(listed), "--source", "loudness", "-o", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"{out / 'manifest.csv'}: 60 utterances, 60 curves in loudness" in result.output
    assert "No label was looked at to make them." in result.output
    curves = read_curves(again(out), "loudness")
    decibels = [loudness(decode(path), FrontEnd()) for path in corpus.paths]
    low, high = np.percentile(np.concatenate(decibels), (1, 99))
    for row in (0, 33):
        expected = ((decibels[row] - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(curves.row(row), expected, atol=1e-3)
    info = describe_curves(out / "loudness.npy")
    assert (info["source"], info["hop_seconds"], info["protocol"], info["folds"]) == (
        "loudness",
        0.01,
        None,
        None,
    )
    assert info["hashes"][0] == content_hash(to_int16(decode(corpus.paths[0])))
    assert info["speakers_seen"]["with_labels"] == {}
    assert curves.speakers_with_labels() == curves.speakers_with_labels(2) == []
    assert info["speakers_seen"]["without_labels"] == [f"toy/{name}" for name in corpus.speakers]
    before, after = Manifest.read(listed), again(out)
    pd.testing.assert_frame_equal(after.table.drop(columns="loudness"), before.table)
    assert (after.sha256, after.roots) == (before.sha256, before.roots)
    stamp = (out / "loudness.npy").stat().st_mtime_ns
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "finished before; nothing to do")
    assert (out / "loudness.npy").stat().st_mtime_ns == stamp
    assert not [path for path in out.iterdir() if ".part" in path.name]


def test_sources_stand_side_by_side(listed: Path, tmp_path: Path) -> None:
    first = annotate_intensity(listed, small(source="voicing"), tmp_path / "voicing")
    both = annotate_intensity(again(first), small(source="loudness", name="loud"), tmp_path / "both")
    voicing = read_curves(again(both), "voicing")
    assert len(read_curves(again(both), "loud")) == len(voicing) == 60
    values = np.concatenate([voicing.row(row) for row in range(60)])
    assert 0 <= values.min() < 0.2
    assert 0.9 < values.max() <= 1
    less = annotate_intensity(
        again(both).where(np.arange(60) < 5), small(source="loudness"), tmp_path / "less"
    )
    assert len(read_curves(again(less), "loudness")) == 5
    anew = annotate_intensity(again(less), small(source="loudness"), tmp_path / "anew")
    assert (
        describe_curves(anew / "loudness.npy")["lengths"] == describe_curves(less / "loudness.npy")["lengths"]
    )


def test_a_ranker_learns_from_the_training_speakers_alone(
    ranked: Path, corpus: Manifest, tmp_path: Path
) -> None:
    curves = read_curves(again(ranked))
    assert curves.hop_seconds == pytest.approx(0.04)
    assert curves.info["protocol"] == "toy-5"
    assert curves.folds is None
    labelled = ["toy/f01", "toy/f02", "toy/m01", "toy/m02", "toy/m03"]
    assert curves.speakers_with_labels() == labelled  # dev chooses by its labels
    assert len(curves.info["speakers_seen"]["without_labels"]) == 6
    values = np.concatenate([curves.row(row) for row in range(60)])
    assert (values.min(), values.max()) == (0, 1)
    assert np.isclose(curves.info["ends"][""]["toy"][0], 0, atol=1)
    quality = meta_of(ranked)["quality"]
    assert (quality["utterances"], quality["speakers"]) == (10, 1)
    assert set(quality["order"]["intensity"]) == {"all", "anger", "fear", "happiness", "sadness"}
    network, config = load_strength_net(find_strength_net(ranked))
    assert (config["labels"], config["protocol"]) == (list(LABELS), "toy-5")
    assert config["speakers_seen"]["with_labels"] == labelled
    assert network.hop_seconds == curves.hop_seconds
    page = (ranked / "intensity.html").read_text()
    for part in ("emotional above neutral, % of pairs", "data:image/png;base64,iVBOR", "by loudness"[3:]):
        assert part in page
    assert "http" not in page.replace("https://www.w3.org", "")
    # Other labels of those who are tested change nothing.
    lied = corpus.table.copy()
    lied.loc[lied["speaker"] == "f03", "emotion"] = "anger"
    changed = Manifest(lied, corpus.roots)
    settings = load(IntensitySettings, json.loads(json.dumps(meta_settings(ranked))))
    run = annotate_intensity(changed, settings, tmp_path / "lied")
    other = read_curves(again(run))
    np.testing.assert_allclose(other.row(25), curves.row(25), atol=1e-5)
    assert other.info["source_sha256"] == curves.info["source_sha256"]


def meta_settings(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = describe_curves(run / "intensity.npy")["settings"]
    return settings


def test_a_protocol_of_several_folds_gives_one_column_each(listed: Path, tmp_path: Path) -> None:
    run = annotate_intensity(
        listed, small("ranker.train.epochs=1", protocol="speaker-kfold"), tmp_path / "run"
    )
    curves = read_curves(again(run))
    assert curves.folds == [1, 2, 3, 4, 5]
    assert np.load(run / "intensity.npy").shape[1] == 5
    assert not np.allclose(curves.row(0, 1), curves.row(0, 2))
    for fold in curves.folds:
        config = read_config(run / f"fold-{fold}" / "strength")
        assert curves.speakers_with_labels(fold) == config["speakers_seen"]["with_labels"]
        assert 4 <= len(curves.speakers_with_labels(fold)) <= 5
    with pytest.raises(ManifestError, match="each of the folds 1, 2, 3, 4, 5"):
        curves.row(0)
    assert meta_of(run)["quality"]["speakers"] == 6
    with pytest.raises(CheckpointError, match="name one of these"):
        annotate_intensity(listed, small(model=str(run.path)), tmp_path / "which")
    assert not (tmp_path / "which").exists()


def test_a_saved_model_reads_recordings_without_labels(
    ranked: Path, corpus: Manifest, tmp_path: Path
) -> None:
    table = corpus.table.assign(emotion=None, corpus="new")
    bare = Manifest(table, {"new": corpus.roots["toy"]})
    run = annotate_intensity(bare, small(model=str(ranked)), tmp_path / "run")
    curves, first = read_curves(again(run)), read_curves(again(ranked))
    np.testing.assert_allclose(curves.row(7), first.row(7), atol=1e-4)
    assert curves.speakers_with_labels() == first.speakers_with_labels()
    assert curves.info["source_sha256"] == first.info["source_sha256"]
    both = Manifest.join([again(run), again(ranked)])
    assert len(read_curves(both)) == 120
    meta = meta_of(run)
    assert meta["quality"]["speakers"] == 6
    assert not meta["quality"]["order"]
    assert any("cannot be said: no utterance has an emotion label" in words for words in meta["words"])


def test_a_saved_model_is_tested_on_others_only(ranked: Path, listed: Path, tmp_path: Path) -> None:
    run = annotate_intensity(listed, small(model=str(ranked)), tmp_path / "run")
    assert meta_of(run)["quality"]["speakers"] == 1
    known = Manifest.read(listed)
    known = known.where(known.table["speaker"] != "f03")
    run = annotate_intensity(known, small(model=str(ranked)), tmp_path / "known")
    assert "No speaker is left to test the curves on." in meta_of(run)["words"]


def test_a_recogniser_says_how_far_speech_is_from_neutral(listed: Path, tmp_path: Path) -> None:
    seen = {"with_labels": ["f01", "m01"], "without_labels": [], "chosen_on": ["f02"]}
    folder = recogniser(tmp_path / "recogniser", speakers_seen=seen, protocol="mine")
    out = tmp_path / "run"
    command = ["annotate", "intensity", str(listed), "--source", "recogniser", "--recogniser", str(folder)]
    result = CliRunner().invoke(app, [*command, "-o", str(out), "window_seconds=0.5", "hop_seconds=0.1"])
    assert result.exit_code == 0, result.output
    curves = read_curves(again(out))
    assert curves.hop_seconds == pytest.approx(0.1)
    assert curves.speakers_with_labels() == ["toy/f01", "toy/f02", "toy/m01"]
    assert meta_of(out)["quality"]["speakers"] == 3
    seconds = len(decode(Manifest.read(listed).paths[0])) / 16_000
    assert len(curves.row(0)) == round(seconds / 0.1)
    assert 0 < curves.row(0).min() < curves.row(0).max() < 1


def test_a_recogniser_without_neutral_is_refused(listed: Path, tmp_path: Path) -> None:
    folder = recogniser(tmp_path / "recogniser", ("anger", "fear"))
    settings = small(source="recogniser", recogniser=str(folder))
    with pytest.raises(ConfigError, match="knows anger, fear and not neutral"):
        annotate_intensity(listed, settings, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        annotate_intensity(
            listed, small(source="recogniser", recogniser=str(listed.parent)), tmp_path / "run"
        )
    with pytest.raises(CheckpointError, match="not StrengthNet"):
        annotate_intensity(listed, small(model=str(folder)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "recogniser"}, "--recogniser FOLDER"),
        ({"source": "loudness", "recogniser": "x"}, "and no other"),
        ({"source": "voicing", "protocol": "speaker-kfold"}, "reads no labels"),
        ({"protocol": "speaker-kfold", "model": "x"}, "either a model or a protocol"),
        ({"hop_seconds": 2.0}, "not be longer"),
        ({"name": "speaker"}, "choose another name"),
        ({"name": "manifest"}, "choose another name"),
        ({"name": "../up"}, "name: got"),
        ({"source": "pitch"}, "source: got 'pitch'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(IntensitySettings, values)


def test_what_cannot_be_ranked_leaves_no_folder(corpus: Manifest, listed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing says whose may be used"):
        annotate_intensity(listed, small(), tmp_path / "run")
    calm = corpus.where((corpus.table["emotion"] != "neutral").to_numpy())
    with pytest.raises(
        ManifestError, match=r"speaker-kfold has the classes anger, fear, happiness, sadness;"
    ):
        annotate_intensity(calm, small(protocol="speaker-kfold"), tmp_path / "run")
    other = Manifest(corpus.table.assign(intensity="much"), corpus.roots)
    with pytest.raises(ManifestError, match=r"holds 'much'; FILE\.npy#ROW is needed"):
        annotate_intensity(other, small(protocol="speaker-kfold"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_crema_d_goes_by_a_protocol_unless_told_otherwise(corpus: Manifest, tmp_path: Path) -> None:
    named = Manifest(corpus.table.assign(corpus="crema-d"), {"crema-d": corpus.roots["toy"]})
    with pytest.raises(ProtocolError, match=r"crema-d-6-evar"):
        annotate_intensity(named, small(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_recordings_have_no_curve_and_are_listed(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(corpus.roots["toy"], audio)
    (audio / str(corpus.table["file"][3])).write_text("no sound")
    (audio / str(corpus.table["file"][59])).unlink()
    Manifest(corpus.table, {"toy": audio}).write(tmp_path / "damaged.csv")
    command = ["annotate", "intensity", str(tmp_path / "damaged.csv"), "--protocol", str(protocol), *SMALL]
    for _ in range(2):  # also when it was finished before
        result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "run")])
        assert result.exit_code == 1, result.output
        assert f"unreadable: {corpus.keys[59]}: " in result.output
        assert "60 utterances, 58 curves in intensity" in result.output
    manifest = again(tmp_path / "run")
    there = vector_places(manifest, "intensity")[1][:, 0] >= 0
    assert np.flatnonzero(~there).tolist() == [3, 59]
    with pytest.raises(ManifestError, match="empty in 2 rows"):
        read_curves(manifest)
    curves = read_curves(manifest.where(there))
    seconds = len(decode(corpus.paths[4])) / 16_000
    assert len(curves.row(3)) == pytest.approx(seconds / 0.04, abs=1)


def test_a_wrong_root_says_so(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="none of the 60 recordings can be decoded"):
        annotate_intensity(Manifest.read(listed, tmp_path), small(source="loudness"), tmp_path / "run")
    annotate_intensity(listed, small(source="loudness"), tmp_path / "run")  # and the right one goes on


def test_a_folder_of_another_maker_is_refused(listed: Path, tmp_path: Path) -> None:
    annotate_intensity(listed, small(source="loudness"), tmp_path / "run")
    with pytest.raises(RunError, match="other settings"):
        annotate_intensity(listed, small(source="voicing"), tmp_path / "run")
    folder = recogniser(tmp_path / "recogniser")
    settings = small(source="recogniser", recogniser=str(folder))
    annotate_intensity(listed, settings, tmp_path / "asked")
    recogniser(folder)  # other weights
    with pytest.raises(RunError, match="source_sha256"):
        annotate_intensity(listed, settings, tmp_path / "asked")


SLOW = """
import sys, time
from affetto.config import load
from affetto.intensity.network import IntensityObjective
from affetto.intensity.run import annotate_intensity
from affetto.intensity.sources import IntensitySettings
forward = IntensityObjective.forward
def slow(self, batch):
    time.sleep(0.15)
    return forward(self, batch)
IntensityObjective.forward = slow
annotate_intensity({listed!r}, load(IntensitySettings, {{"protocol": {protocol!r}}}, {small!r}), {out!r})
"""


def test_a_killed_run_goes_on_and_ends_the_same(
    listed: Path, protocol: Path, ranked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code = SLOW.format(listed=str(listed), protocol=str(protocol), small=SMALL, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not (out / "fold-1" / "state.pt").exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "DONE").exists()
    run = annotate_intensity(listed, small(protocol=str(protocol)), out)
    np.testing.assert_allclose(np.load(run / "intensity.npy"), np.load(ranked / "intensity.npy"), atol=1e-4)
    assert not (out / "fold-1" / "state.pt").exists()


def test_a_full_disk_is_said_so_and_the_run_goes_on_later(listed: Path, tmp_path: Path) -> None:
    annotate_intensity(listed, small(source="loudness"), tmp_path / "first")  # fills the caches
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(RunError, match=r"cannot write .*loudness\.npy.*make room there"):
            annotate_intensity(listed, small(source="loudness"), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "run").glob("*.npy"))
    run = annotate_intensity(listed, small(source="loudness"), tmp_path / "run")
    assert len(read_curves(again(run), "loudness")) == 60


def test_every_source_has_a_maker() -> None:
    assert set(intensity_sources.SOURCES) == {"ranker", "recogniser", "loudness", "voicing"}
