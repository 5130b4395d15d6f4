"""Recognisers that come with affetto, and others that are saved without the weights of their encoders."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from affetto.cli import app
from affetto.errors import CheckpointError, ConfigError
from affetto.evaluation.run import RunError, evaluate
from affetto.finetuning.run import finetune, save_recogniser
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser
from affetto.inference.loading import load_representation
from affetto.models import checkpoint
from affetto.models.checkpoint import SHIPPED, SHIPPED_FOLDER
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import (
    EmbedderSettings,
    JoinedSettings,
    StatisticsSettings,
    load_published,
)
from affetto.models.ge2e import Ge2eSettings
from affetto.models.hub_encoders import WhisperSettings
from affetto.models.whisper import WhisperBlocksSettings
from helpers import recogniser_config
from speech_models import save_tiny_whisper

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
MEGABYTE = 1_000_000
BARE = """
import sys
for name in ("transformers", "resemblyzer", "peft", "onnxruntime", "pandas", "scipy", "sklearn"):
    sys.modules[name] = None  # as if it were not installed; and what would only make loading slower
from affetto import Recogniser
for row in Recogniser.from_pretrained("small", any_sound=True).files(sys.argv[1:]):
    print(row["label"], sum(value for name, value in row.items() if name.startswith("p_")))
"""


def sounds(folder: Path, seconds: tuple[float, ...] = (0.3, 1.0, 2.5, 4.0)) -> list[Path]:
    generator = np.random.default_rng(0)
    files = []
    for number, length in enumerate(seconds):
        times = np.arange(round(16_000 * length)) / 16_000
        voice = 0.2 * np.sign(np.sin(2 * np.pi * (120 + 30 * number) * times)) * np.sin(3 * times) ** 2
        files.append(folder / f"{number}.wav")
        soundfile.write(files[-1], voice + 0.01 * generator.standard_normal(len(times)), 16_000)
    return files


def made(folder: Path, embedder: EmbedderSettings, head_only: bool = True, published: bool = True) -> Path:
    """Writes a recogniser with a random head."""
    torch.manual_seed(0)
    classifier = EmotionClassifier(ClassifierSettings(embedder=embedder, labels=tuple(EMOTIONS)))
    if published:
        load_published(classifier)
    save_recogniser(folder, classifier, recogniser_config(classifier), head_only)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper") / "model", 200)


@pytest.fixture(scope="module")
def head(whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = WhisperSettings.model_validate({"model": str(whisper)})
    return made(tmp_path_factory.mktemp("head") / "recogniser", StatisticsSettings(encoder=shape))


def test_small_needs_nothing_but_affetto(tmp_path: Path) -> None:
    files = sounds(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BARE, *map(str, files)], check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == len(files)
    assert {label for label, _ in rows} <= set(EMOTIONS)
    assert all(abs(float(total) - 1) < 1e-5 for _, total in rows)


def test_small_answers_alike_whatever_is_asked_with_it(tmp_path: Path) -> None:
    files = sounds(tmp_path)
    recogniser = Recogniser.from_pretrained("small", device="cpu", any_sound=True)  # they are no speech
    assert recogniser.labels == EMOTIONS
    together = pd.DataFrame(recogniser.files(files))
    for file, row in zip(files, together.to_dict("records"), strict=True):
        for each in recogniser.from_file(file):
            assert row[f"p_{each['label']}"] == pytest.approx(each["score"], abs=1e-5)
    assert together["p_anger"].nunique() == len(files)
    embedded = load_representation("small", device="cpu")
    assert embedded.dim == recogniser.embed(files[0]).shape[1]


@pytest.mark.parametrize(("name", "most"), [("small", 8 * MEGABYTE), ("base", MEGABYTE)])
def test_what_comes_with_affetto_is_small_and_described(name: str, most: int) -> None:
    folder = SHIPPED_FOLDER / name
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= most
    for card in folder.rglob("README.md"):
        text = card.read_text(encoding="utf-8")
        for words in ("2024/1689", "Open Database License", "Whisper", "not for", f'"{name}"'):
            assert words in text


def test_a_name_is_not_hidden_by_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").symlink_to(head)
    assert checkpoint.find_recogniser("small") == SHIPPED_FOLDER / "small"
    for name in ("./small", Path("small"), str(tmp_path / "small")):
        assert checkpoint.find_recogniser(name) == Path(name)
    with pytest.raises(CheckpointError, match=f"absent: no such folder; .*{' or '.join(SHIPPED)}"):
        Recogniser.from_pretrained("absent")


def test_without_resemblyzer_base_is_the_one_that_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED_FOLDER", tmp_path)
    (tmp_path / "base" / "without-ge2e").mkdir(parents=True)
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(checkpoint, "distribution", lambda name: None)
    assert checkpoint.find_recogniser("base") == tmp_path / "base"

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checkpoint, "distribution", missing)
    assert checkpoint.find_recogniser("base") == tmp_path / "base" / "without-ge2e"
    assert checkpoint.find_recogniser("small") == tmp_path / "small"


def test_a_head_takes_its_encoder_from_elsewhere(head: Path, whisper: Path, tmp_path: Path) -> None:
    tensors = load_file(head / "model.safetensors")
    assert tensors
    assert not [name for name in tensors if name.startswith("embedder.encoder.")]
    shape = WhisperSettings.model_validate({"model": str(whisper)})
    whole = made(tmp_path / "whole", StatisticsSettings(encoder=shape), head_only=False)
    files = sounds(tmp_path)
    expected = Recogniser.from_pretrained(whole, device="cpu", any_sound=True).predict(files)
    pd.testing.assert_frame_equal(
        Recogniser.from_pretrained(head, device="cpu", any_sound=True).predict(files), expected
    )
    with pytest.raises(ConfigError, match="needs no model from elsewhere"):
        Recogniser.from_pretrained(whole, encoder=whisper)


def test_an_encoder_that_has_moved_can_be_named(head: Path, whisper: Path, tmp_path: Path) -> None:
    file = sounds(tmp_path)[0]
    recogniser = Recogniser.from_pretrained(head, device="cpu", any_sound=True)
    expected, before = recogniser.predict(file), recogniser.sha256
    there = whisper.rename(tmp_path / "moved")
    try:
        with pytest.raises(CheckpointError, match=r"name its folder, as encoder\.model=FOLDER"):
            Recogniser.from_pretrained(head)
        moved = Recogniser.from_pretrained(head, device="cpu", encoder=there, any_sound=True)
        assert moved.predict(file) == expected
        assert moved.sha256 == before
        assert load_representation(head, settings=[f"encoder.model={there}"], device="cpu").dim == 96
        with pytest.raises(ConfigError, match=r"encoder\.window=1; a recogniser takes encoder\.model=FOLDER"):
            load_representation(head, settings=["encoder.window=1"])
        asked = ["predict", str(file), f"encoder.model={there}", "-m", str(head), "--any-sound"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        assert expected[0]["label"] in done.stdout
    finally:
        there.rename(whisper)


def test_other_weights_are_refused(head: Path, tmp_path: Path) -> None:
    other = save_tiny_whisper(tmp_path / "other", 200)
    tensors = load_file(other / "model.safetensors")
    name = next(name for name in tensors if name.endswith("encoder.conv1.bias"))
    from safetensors.torch import save_file

    save_file({**tensors, name: tensors[name] + 0.1}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"other: its weights are not those .*SHA-256 \w{12}, not \w{12}"
    ):
        Recogniser.from_pretrained(head, encoder=other)


def test_heads_of_several_encoders(whisper: Path, tmp_path: Path) -> None:
    """One has weights from elsewhere, and the other is random: it keeps its own."""
    shape = WhisperSettings.model_validate({"model": str(whisper)})
    blocks = WhisperBlocksSettings(model=str(whisper), blocks=1, width=16, heads=2, feed_forward=32)
    parts = tuple(StatisticsSettings(encoder=each) for each in (shape, blocks))
    folder = made(tmp_path / "two", JoinedSettings(parts=parts))
    recogniser = Recogniser.from_pretrained(folder, device="cpu")
    assert len(recogniser.config["weights_elsewhere"]) == 2
    with pytest.raises(ConfigError, match="needs no model from elsewhere"):
        Recogniser.from_pretrained(folder, encoder=whisper)
    alone = made(tmp_path / "ge2e", StatisticsSettings(encoder=Ge2eSettings(hidden=8)), published=False)
    with pytest.raises(CheckpointError, match="Resemblyzer"):
        Recogniser.from_pretrained(alone)


def test_only_heads_on_fixed_published_weights_are_saved_alone(protocol: Path) -> None:
    for encoder, words in (("cnn", "starts from no published weights"), ("ge2e", "an encoder that learns")):
        with pytest.raises(ConfigError, match=words):
            finetune_settings(protocol=str(protocol), encoder=encoder, head_only=True)


def test_everybody_is_train_or_dev(listed: Path, tmp_path: Path) -> None:
    settings = finetune_settings(protocol="all-speakers", encoder="whisper-blocks-statistics", head_only=True)
    run = finetune(listed, settings, tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet")
    assert set(table["part"]) == {"dev"}
    config = checkpoint.read_config(run / "recogniser")
    seen = config["speakers_seen"]
    assert len({*seen["with_labels"], *seen["chosen_on"]}) == 6
    assert list(config["weights_elsewhere"]) == ["embedder.encoder"]
    assert len(Recogniser.from_pretrained(run / "recogniser", device="cpu").labels) == 5
    with pytest.raises(RunError, match="has no test part"):
        evaluate(run.path)


@pytest.mark.corpora
@pytest.mark.parametrize("name", SHIPPED)
def test_real_speech(name: str, corpora_root: Path) -> None:
    """Most of it was trained on; so this finds gross faults alone."""
    folder = corpora_root.parent / "models" / "whisper-base"
    if not folder.is_dir():
        pytest.skip("no published weights of Whisper beside the recordings")
    recogniser = Recogniser.from_pretrained(name, device="cpu", encoder=folder if name == "base" else None)
    assert recogniser.labels == EMOTIONS
    codes = {"ANG": "anger", "SAD": "sadness", "HAP": "happiness", "NEU": "neutral"}
    files = sorted((corpora_root / "crema-d" / "AudioWAV").iterdir())
    files = [file for file in files if file.stem.split("_")[2] in codes][::150]
    truth = [codes[file.stem.split("_")[2]] for file in files]
    assert (recogniser.predict(files)["label"] == truth).mean() > 0.6
