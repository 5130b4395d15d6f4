"""What was saved comes back the same; what is damaged, partial or pickled is refused by name."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from affetto._version import __version__
from affetto.errors import CheckpointError, ConfigError
from affetto.models.checkpoint import (
    FORMAT,
    encoder_settings,
    fill_encoder,
    load_weights,
    read_config,
    save_encoder,
    save_weights,
)
from affetto.models.classifier import ClassifierSettings, EmotionClassifier, load_classifier
from affetto.models.embedders import FunctionalsSettings, NetworkSettings
from affetto.models.logmel import CnnSettings, Tdnn, TdnnSettings

CNN = NetworkSettings(encoder=CnnSettings(width=8, blocks=1, bins=16))
SHAPES = {
    "network": ClassifierSettings(embedder=CNN, labels=("anger", "neutral", "sadness"), enrolment=True),
    "linear": ClassifierSettings(
        embedder=FunctionalsSettings(bins=8), labels=("anger", "neutral"), standardise=True
    ),
    "kernel": ClassifierSettings(
        embedder=FunctionalsSettings(bins=8),
        labels=("anger", "neutral"),
        head="kernel",
        support=4,
        standardise=True,
        enrolment=True,
    ),
}


def made(name: str, seed: int = 0) -> EmotionClassifier:
    """A classifier in which every number is drawn, so that none is right by chance."""
    torch.manual_seed(seed)
    classifier = EmotionClassifier(SHAPES[name]).eval()
    for tensor in classifier.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) + 0.1)
    return classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(tmp_path / "saved", made("network"), {"labels": ["ärger"]})
    return tmp_path / "saved"


@pytest.mark.parametrize("name", SHAPES)
def test_save_and_load_give_the_same_output(name: str, tmp_path: Path) -> None:
    before = made(name)
    save_weights(tmp_path, before, {"classifier": before.settings.model_dump(mode="json")})
    after = EmotionClassifier(ClassifierSettings(**read_config(tmp_path)["classifier"])).eval()
    load_weights(tmp_path, after)
    waveforms, lengths = 0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000])
    features = before.front_end(waveforms, lengths)
    with torch.no_grad():
        vectors = before.embed(*features)
        assert torch.equal(vectors, after.embed(*features))
        assert torch.equal(before.answers(vectors), after.answers(vectors))
        if before.enrolment is not None:
            offset = before.offset(vectors)
            assert torch.equal(offset, after.offset(vectors))
            assert torch.equal(before.answers(vectors, offset), after.answers(vectors, offset))
            assert not torch.equal(before.answers(vectors, offset), before.answers(vectors))


def test_only_two_files_are_written(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    version = {"format": FORMAT, "affetto_version": __version__}
    assert read_config(folder) == {**version, "labels": ["ärger"]}


def change(folder: Path, missing: str = "", surplus: str = "", misshapen: str = "") -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(missing, None)
    if surplus:
        tensors[surplus] = torch.zeros(2)
    if misshapen:
        tensors[misshapen] = torch.zeros(7)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"missing": "head.linear.bias"}, "missing: head.linear.bias"),
        ({"surplus": "head.extra"}, "surplus: head.extra"),
        ({"misshapen": "head.linear.bias"}, r"misshapen: head.linear.bias \(7,\) instead of \(3,\)"),
        ({"missing": "temperature", "surplus": "heat"}, "missing: temperature; surplus: heat"),
    ],
)
def test_a_tensor_too_many_too_few_or_of_another_shape(
    folder: Path, fault: dict[str, str], message: str
) -> None:
    change(folder, **fault)
    fresh = made("network", seed=1)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_weights(folder, fresh)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


class Trap:
    """What a pickle can do when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, ("sprung", "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "truncated", "empty"])
def test_anything_else_in_place_of_the_weights_is_refused_unopened(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    file = folder / "model.safetensors"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Trap()))
    elif kind == "torch":
        torch.save({"head.linear.bias": torch.zeros(3)}, file)
    else:
        file.write_bytes({"text": b"weights", "truncated": file.read_bytes()[:-9], "empty": b""}[kind])
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        load_weights(folder, made("network"))
    assert not (folder / "sprung").exists()


def test_weights_in_another_format_are_not_looked_for(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors"):
        load_weights(folder, made("network"))


def test_a_config_that_is_missing_or_damaged_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(folder)
    (folder / "config.json").write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no mapping"):
        read_config(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no config.json; name the folder that finetune wrote"):
        read_config(folder)


@pytest.mark.parametrize("changed", [{"format": 7}, {"format": None, "affetto_version": None}])
def test_a_folder_of_another_format_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    classifier, encoder = made("network"), Tdnn(TdnnSettings(width=8, blocks=1, bins=8))
    seen = {"with_labels": [], "without_labels": []}
    described = {"encoder": encoder.settings.model_dump(), "objective": "npc", "tasks": [], "groups": None}
    shape = {"class": "EmotionClassifier", "classifier": classifier.settings.model_dump(mode="json")}
    save_weights(tmp_path / "recogniser", classifier, shape)
    save_encoder(tmp_path / "encoder", encoder, {**described, "speakers_seen": seen})
    load_classifier(tmp_path / "recogniser")
    fill_encoder(tmp_path / "encoder", encoder)
    for name in ("recogniser", "encoder"):
        config = {**read_config(tmp_path / name), **changed}
        kept = {key: value for key, value in config.items() if value is not None}
        (tmp_path / name / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    message = rf"is of format {changed['format'] or 'none'}, .* reads format 1; make the folder again"
    with pytest.raises(CheckpointError, match=message):
        load_classifier(tmp_path / "recogniser")
    with pytest.raises(CheckpointError, match=message):
        encoder_settings(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=message):
        fill_encoder(tmp_path / "encoder", encoder)


def test_enrolment_that_was_not_fitted_is_refused() -> None:
    classifier = EmotionClassifier(ClassifierSettings(embedder=CNN, labels=("anger", "neutral")))
    with pytest.raises(ConfigError, match="made without enrolment"):
        classifier.offset(torch.zeros(2, classifier.dim))
