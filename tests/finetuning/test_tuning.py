"""Encoders that learn: rates by layer, the head first, lower layers computed once, the head fitted again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.corpora.manifest import Manifest
from affetto.data import Batch, FeatureCache
from affetto.errors import ConfigError
from affetto.evaluation.metrics import uar
from affetto.finetuning import task as module
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.finetuning.task import Fitted, refit_head
from affetto.inference import Recogniser
from affetto.models import CnnSettings
from affetto.models.checkpoint import read_config
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings, load_published
from affetto.models.hub_encoders import Whisper, WhisperSettings
from affetto.objectives.supervised import Classify, ClassifySettings, Supervised
from affetto.optimising import TrainSettings, parameter_groups
from affetto.runs import RunFolder
from smallest import few_trials
from speech_models import save_tiny_whisper

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
BLOCK = "embedder.encoder.network.layers.1.fc1.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper") / "model", 100)


def tuned(protocol: Path, model: Path, *words: str) -> FinetuneSettings:
    """Settings under which the last block of a tiny Whisper learns."""
    given = (f"encoder.model={model}", "encoder.trained_blocks=1", "train_encoder=true", "enrolment=false")
    more = ("train.epochs=3", "train.learning_rate=1e-3", *words)
    return finetune_settings(protocol=str(protocol), encoder="whisper", overrides=(*given, *more))


def weights(run: RunFolder) -> dict[str, Tensor]:
    return load_file(run / "recogniser" / "model.safetensors")


def choices(run: RunFolder) -> dict[str, Any]:
    found = json.loads((run / "meta.json").read_text(encoding="utf-8"))["choices"]
    return dict(found["seed-0/fold-1"])


def epoch_scores(run: RunFolder) -> list[float]:
    text = (run / "seed-0" / "fold-1" / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["score"] for line in text.splitlines()]


def dev_uar(run: RunFolder) -> float:
    dev = pd.read_parquet(run / "predictions.parquet").query("part == 'dev'")
    numbers = {label: place for place, label in enumerate(LABELS)}
    return uar(dev["truth"].map(numbers).to_numpy(), dev["label"].map(numbers).to_numpy())


def test_each_block_has_its_rate(model: Path) -> None:
    given = (f"encoder.model={model}", "train_encoder=true")
    settings = finetune_settings(protocol="speaker-kfold", encoder="whisper", overrides=given)
    network = EmotionClassifier(ClassifierSettings(labels=LABELS, embedder=settings.embedder))
    objective = Classify(network, ClassifySettings(), AugmentConfig())
    names = {each: name for name, each in network.named_parameters()}
    found = {
        names[each]: (group["factor"], group["encoder"], group["weight_decay"])
        for group in parameter_groups(objective, TrainSettings(layer_decay=0.5))
        for each in group["params"]
    }
    assert set(found) == {name for name, each in network.named_parameters() if each.requires_grad}
    assert found["embedder.encoder.network.layers.1.fc1.weight"] == (1.0, True, 0.05)
    assert found["embedder.encoder.network.layers.0.fc1.weight"] == (0.5, True, 0.05)
    assert found["embedder.encoder.network.layers.0.fc1.bias"] == (0.5, True, 0.0)
    assert found["embedder.encoder.network.conv1.weight"] == (0.25, True, 0.05)
    assert found["embedder.layer_weights"] == (1.0, False, 0.0)
    assert found["head.linear.weight"] == (1.0, False, 0.05)


def test_what_fine_tunes_a_speech_encoder_is_gentle(model: Path) -> None:
    def train(*words: str, **more: Any) -> TrainSettings:
        given = (f"encoder.model={model}", *words)
        return finetune_settings(protocol="speaker-kfold", encoder="whisper", overrides=given, **more).train

    fixed, whole = train(), train("train_encoder=true")
    assert (fixed.learning_rate, fixed.layer_decay, fixed.head_epochs) == (1e-3, 1.0, 0)
    assert (whole.learning_rate, whole.layer_decay, whole.head_epochs) == (5e-5, 0.75, 1)
    assert train("train_encoder=true", "encoder.lora=2").learning_rate == 1e-3
    assert train("train_encoder=true", "train.layer_decay=0.5").layer_decay == 0.5
    assert train(frozen=True).head_epochs == 0
    with pytest.raises(ConfigError, match="head_epochs, layer_decay for an encoder that stays as it is"):
        train("train.layer_decay=0.5", "train.head_epochs=1")
    with pytest.raises(ConfigError, match="head_epochs=1 of epochs=1 leaves none"):
        train("train_encoder=true", "train.epochs=1")


def test_at_first_the_head_learns_alone(
    corpus: Manifest, protocol: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Tensor]] = []
    forward = Classify.forward

    def watched(self: Classify, batch: Batch) -> dict[str, Tensor]:
        state = self.classifier.state_dict()
        if self.training:
            seen.append({name: state[name].clone() for name in (BLOCK, "head.linear.weight")})
        return forward(self, batch)

    monkeypatch.setattr(Classify, "forward", watched)
    finetune(corpus, tuned(protocol, model, "train.head_epochs=2", "train.batch_size=20"), tmp_path / "run")
    moved = [not torch.equal(each[BLOCK], seen[0][BLOCK]) for each in seen]
    assert moved == [False] * 5 + [True]  # two steps an epoch; each is seen before it is taken
    assert not torch.equal(seen[1]["head.linear.weight"], seen[0]["head.linear.weight"])


def test_lower_layers_are_computed_once_and_change_nothing(
    corpus: Manifest, protocol: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[str] = []
    viewed = Supervised.viewed

    def watched(self: Supervised, batch: Batch, targets: Tensor) -> Any:
        trained_on.append(self.reads)
        return viewed(self, batch, targets)

    monkeypatch.setattr(Supervised, "viewed", watched)
    still = ("dropout=0", "train.batch_size=8")
    once = finetune(corpus, tuned(protocol, model, *still), tmp_path / "once")
    assert set(trained_on) == {"frames"}
    # A change that nobody hears, and for which the waveforms are needed.
    heard = finetune(corpus, tuned(protocol, model, *still, "augment.gain_db=1e-7"), tmp_path / "heard")
    assert set(trained_on) == {"frames", "waveforms"}
    assert choices(once)["epoch"] == choices(heard)["epoch"]
    assert weights(once).keys() == weights(heard).keys()
    for name, tensor in weights(once).items():
        if "head" not in name:  # which may be fitted again, and divides by small deviations
            torch.testing.assert_close(weights(heard)[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    tables = [pd.read_parquet(run / "predictions.parquet") for run in (once, heard)]
    probabilities = [f"p_{label}" for label in LABELS]
    np.testing.assert_allclose(tables[0][probabilities], tables[1][probabilities], atol=1e-3)
    # What was saved is a whole encoder.
    row = tables[0].iloc[-1]
    path = dict(zip(corpus.keys, corpus.paths, strict=True))[row["key"]]
    scores = Recogniser.from_pretrained(once / "recogniser").predict(path)
    said = {each["label"]: each["score"] for each in scores}
    np.testing.assert_allclose([said[label] for label in LABELS], row[probabilities].astype(float), atol=1e-4)


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    corpus: Manifest, protocol: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tuned(
        protocol, model, "train.layer_decay=0.5", "train.checkpoint_steps=2", "augment.mixup=0.3"
    )
    straight = finetune(corpus, settings, tmp_path / "straight")
    forward, left = Classify.forward, [0]

    def failing(self: Classify, batch: Batch) -> dict[str, Tensor]:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return forward(self, batch)

    for stop in (2, 3, 4):  # in the epoch of the head, and after it
        left[0] = stop
        monkeypatch.setattr(Classify, "forward", failing)
        with pytest.raises(KeyboardInterrupt):
            finetune(corpus, settings, tmp_path / "stopped")
        monkeypatch.setattr(Classify, "forward", forward)
    resumed = finetune(corpus, settings, tmp_path / "stopped")
    assert choices(resumed) == choices(straight)
    assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(straight).items())


def test_a_head_that_learned_too_little_is_fitted_again(
    corpus: Manifest, protocol: Path, model: Path, tmp_path: Path
) -> None:
    short = ("train.epochs=2", "train.learning_rate=1e-7", "train.head_epochs=0")
    run = finetune(corpus, tuned(protocol, model, *short), tmp_path / "run")
    chosen = choices(run)
    assert chosen["head"] in ("refitted", "statistics")
    assert "strength" in chosen
    assert chosen["dev_uar"] == pytest.approx(dev_uar(run))
    assert chosen["dev_uar"] > max(epoch_scores(run))
    assert "untouched" not in chosen


def test_the_head_begins_as_that_of_the_untouched_encoder(
    corpus: Manifest, protocol: Path, model: Path, tmp_path: Path
) -> None:
    run = finetune(corpus, tuned(protocol, model, "train.learning_rate=1e-7"), tmp_path / "run")
    untouched = choices(run)["untouched"]
    assert untouched["head"] == "refitted"
    assert untouched["dev_uar"] > 0.2  # chance
    assert epoch_scores(run) == pytest.approx([untouched["dev_uar"]] * 3)  # nothing has moved since


@pytest.mark.parametrize("better", [True, False])
def test_the_statistics_of_all_layers_are_read_where_they_are_better_on_dev(
    better: bool,
    corpus: Manifest,
    protocol: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The loss of the trained head, of the one fitted again, twice of the better one, and of the statistics.
    losses = iter([3.0, 2.0, 2.0, 1.0 if better else 2.5])
    monkeypatch.setattr(module, "balanced_loss", lambda *_: next(losses))
    settings = tuned(protocol, model, "train.head_epochs=0", "enrolment=true", "train.epochs=1")
    with few_trials():
        run = finetune(corpus, settings, tmp_path / "run")
    assert choices(run)["head"] == ("statistics" if better else "refitted")
    assert choices(run)["dev_uar"] == pytest.approx(dev_uar(run))
    kind = read_config(run / "recogniser")["classifier"]["embedder"]["name"]
    assert kind == ("statistics" if better else "network")
    published = load_published(Whisper(WhisperSettings(model=str(model)))).state_dict()
    found = {name: weights(run)[f"embedder.encoder.{name}"] for name in published}
    assert torch.equal(found["network.layers.0.fc1.weight"], published["network.layers.0.fc1.weight"])
    assert not torch.equal(found["network.layers.1.fc1.weight"], published["network.layers.1.fc1.weight"])
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    row = pd.read_parquet(run / "predictions.parquet").iloc[-1]
    path = dict(zip(corpus.keys, corpus.paths, strict=True))[row["key"]]
    for each in recogniser.predict(path):
        assert each["score"] == pytest.approx(row[f"p_{each['label']}"], abs=1e-3)
    assert recogniser.predict(path, enrolment=recogniser.enrol(corpus.paths[:5]))


@pytest.mark.parametrize(("noise", "kept"), [(False, "refitted"), (True, "trained")])
def test_the_better_head_on_dev_is_kept(noise: bool, kept: str) -> None:
    """One head has the directions of the classes and the other, where training labels are noise, has not."""
    generator = torch.Generator().manual_seed(0)
    network = EmotionClassifier(
        ClassifierSettings(
            labels=LABELS,
            embedder=NetworkSettings(encoder=CnnSettings(width=8, blocks=1), pooling="mean"),
        )
    ).eval()
    truth = torch.arange(200) % 5
    vectors = 3.0 + 0.1 * torch.randn(200, network.dim, generator=generator)
    vectors[:, :5] += 0.3 * torch.eye(5)[truth]
    labels = truth.clone()
    if noise:
        labels[:100] = truth[torch.randperm(100, generator=generator)]
        network.head.assign(torch.eye(network.dim)[:5], torch.zeros(5))
    before = network.head.linear.weight.clone()
    material: Any = SimpleNamespace(targets=lambda share: torch.eye(5)[labels], labels=list(LABELS))
    settings: Any = SimpleNamespace(loss=ClassifySettings())
    task: Any = SimpleNamespace(
        material=material, settings=settings, train=np.arange(100), dev=np.arange(100, 200)
    )
    fitted = Fitted(network, vectors, {"epoch": 1, "dev_uar": -1.0}, {})
    refit_head(fitted, task)
    assert fitted.choices["head"] == kept
    assert torch.equal(network.head.linear.weight, before) == noise
    if not noise:
        found = network.scores(vectors[100:]).argmax(1).numpy()
        assert fitted.choices["dev_uar"] == pytest.approx(uar(truth[100:].numpy(), found))
        assert fitted.choices["dev_uar"] > 0.8


def test_of_a_frozen_encoder_the_one_layer_that_is_read_is_kept(
    corpus: Manifest, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    stacked = FeatureCache.stack

    def watched(self: FeatureCache, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        widths.append(self.values.shape[1])
        return stacked(self, rows)

    monkeypatch.setattr(FeatureCache, "stack", watched)
    still = ("embedder.layers=1", "embedder.context=0", "train.epochs=1", "enrolment=false")
    settings = finetune_settings(
        protocol=str(protocol), encoder="ge2e", overrides=(*still, "train_encoder=false", "augment={}")
    )
    run = finetune(corpus, settings, tmp_path / "run")
    assert set(widths) == {256}
    row = pd.read_parquet(run / "predictions.parquet").iloc[-1]
    path = dict(zip(corpus.keys, corpus.paths, strict=True))[row["key"]]
    said = {
        each["label"]: each["score"] for each in Recogniser.from_pretrained(run / "recogniser").predict(path)
    }
    expected = [row[f"p_{label}"] for label in LABELS]
    np.testing.assert_allclose([said[label] for label in LABELS], expected, atol=1e-3)
