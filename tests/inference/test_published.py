"""Published models by name and by folder, in every verb with an encoder; and folders that are damaged."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import transformers
from typer.testing import CliRunner

from affetto.__main__ import main
from affetto.analysis.layers import layers_settings
from affetto.cli import app
from affetto.errors import ConfigError
from affetto.finetuning.settings import finetune_settings
from affetto.hear import load_model
from affetto.models.hub_encoders import WhisperSettings
from affetto.pretraining.settings import pretrain_settings
from speech_models import save_tiny, save_tiny_whisper

SECONDS = {"long": 70.0, "middle": 2.0, "short": 0.04}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper, a WavLM, a BERT."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_whisper(folder / "listener", 200)
    save_tiny(folder / "wavlm", "WavLM", "Model", "group")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=30, **shape)).save_pretrained(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of several lengths, and silence."""
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for name, seconds in SECONDS.items():
        noise = 0.1 * generator.standard_normal(round(16_000 * seconds))
        soundfile.write(folder / f"{name}.wav", noise, 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    return folder


def run(*words: object) -> int:
    result = CliRunner().invoke(app, ["embed", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code


def test_a_name_with_its_model_and_a_folder_are_one(models: Path, sounds: Path, tmp_path: Path) -> None:
    listener = models / "listener"
    asked: tuple[tuple[Any, ...], ...] = (
        ("-e", "whisper", f"encoder.model={listener}"),
        ("-e", listener),
        ("-e", listener, "encoder.window=2"),
    )
    found = []
    for number, words in enumerate(asked):
        assert run(sounds, "-o", tmp_path / f"{number}.npy", *words) == 0
        found.append(np.load(tmp_path / f"{number}.npy"))
    assert pd.read_csv(tmp_path / "1.csv")["error"].isna().all()  # of 70 s, 40 ms and silence too
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[1]).max() > 1e-3
    with pytest.raises(ConfigError, match="settings and no recordings"):
        run("encoder.window=2", "-e", listener, "-o", tmp_path / "none.npy")


@pytest.mark.parametrize(("folder", "name"), [("listener", "whisper"), ("wavlm", "wav2vec2")])
def test_every_verb_takes_the_folder(models: Path, folder: str, name: str) -> None:
    model = str(models / folder)
    for settings in (
        finetune_settings(protocol="speaker-kfold", encoder=model),
        finetune_settings(overrides=(f"encoder.model={model}",), protocol="speaker-kfold", encoder=name),
        layers_settings("speaker-kfold", model),
    ):
        shape = settings.embedder.encoder
        assert (settings.recipe, shape.name, shape.model) == (name, name, model)
        assert (settings.published_weights, settings.pretrained) == (True, None)
    by_name = pretrain_settings(None, (f"encoder.model={model}",), encoder={"name": name})
    assert pretrain_settings(None, encoder={"name": model}) == by_name
    assert by_name.published_weights
    assert not pretrain_settings(
        None, ("published_weights=false",), encoder={"name": model}
    ).published_weights
    assert load_model(model).scene_embedding_size == 16


def test_settings_follow_a_folder(models: Path) -> None:
    settings = finetune_settings(
        overrides=("encoder.window=1", "encoder.lora=2", "train_encoder=true"),
        protocol="speaker-kfold",
        encoder=str(models / "listener"),
    )
    assert isinstance(settings.embedder.encoder, WhisperSettings)
    assert (settings.embedder.encoder.window, settings.embedder.encoder.lora) == (1, 2)


@pytest.mark.parametrize(
    ("broken", "file", "says"),
    [
        ("listener", "model.safetensors", "no file named model.safetensors"),
        ("listener", "model.safetensors, cut", "does not give a model"),
        ("listener", "preprocessor_config.json", "feature extractor"),
        ("listener", "config.json", "holds no config.json"),
        ("bert", "", "a bert model, and no encoder of 16000 Hz speech like Whisper"),
    ],
)
def test_what_is_damaged_or_another_kind_is_named(
    models: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], broken: str, file: str, says: str,
) -> None:  # fmt: skip
    folder = tmp_path / "model"
    shutil.copytree(models / broken, folder)
    damaged = folder / file.partition(",")[0]
    if file.endswith("cut"):
        damaged.write_bytes(damaged.read_bytes()[:1000])
    elif file:
        damaged.unlink()
    words = ["affetto", "embed", str(sounds), "-e", str(folder), "-o", str(tmp_path / "v.npy")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith(f"error: {folder}")
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("v.*"))
