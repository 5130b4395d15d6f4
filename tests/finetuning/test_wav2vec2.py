"""Encoders of transformers, tiny ones with random weights, against the library's own forward."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError, ConfigError, MissingPackageError
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser
from affetto.models.embedders import load_published
from affetto.models.hub_encoders import Wav2Vec2, Wav2Vec2Settings, Whisper, WhisperSettings
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import pretrain_settings
from speech_models import save_tiny, save_tiny_whisper

STILL = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)


def tiny(folder: Path, family: str = "Wav2Vec2", norm: str = "group", rate: int = 16_000) -> Path:
    return save_tiny(folder, family, "Model", norm, rate=rate)


@pytest.mark.parametrize(
    ("family", "norm"),
    [("Wav2Vec2", "group"), ("Wav2Vec2", "layer"), ("WavLM", "group"), ("Hubert", "group"),
     ("UniSpeechSat", "group"), ("Data2VecAudio", "layer")],
)  # fmt: skip
def test_every_layer_is_that_of_the_library(tmp_path: Path, family: str, norm: str) -> None:
    import transformers

    folder = tiny(tmp_path / "model", family, norm)
    encoder = load_published(Wav2Vec2(Wav2Vec2Settings(model=str(folder)))).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    generator = np.random.default_rng(0)
    voices = [
        0.1 + 0.2 * generator.standard_normal(size).astype(np.float32) for size in (9_000, 14_400, 9_000)
    ]
    lengths = torch.tensor([len(voice) for voice in voices])
    batch = torch.full((3, 14_400, 1), 7.0)  # rubbish in the padding
    for row, voice in enumerate(voices):
        batch[row, : len(voice), 0] = torch.from_numpy(voice)
    with torch.no_grad():
        frames = encoder(batch, lengths)
        for row, voice in enumerate(voices):
            given = inputs(voice, sampling_rate=16_000, return_tensors="pt")
            expected = network(**given, output_hidden_states=True)
            count = int(frames.lengths[row])
            assert count == expected.last_hidden_state.shape[1]
            for found, wanted in zip(frames.layers[:-1], expected.hidden_states, strict=False):
                torch.testing.assert_close(found[row, :count], wanted[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                frames.values[row, :count], expected.last_hidden_state[0], rtol=1e-4, atol=1e-5
            )
    assert len(frames.layers) == 3
    assert frames.values[0].std() > 0.1


def test_several_threads_do_not_mix_their_layers(tmp_path: Path) -> None:
    encoder = Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "model")))).eval()
    batches = [torch.randn(3, size, 1) for size in (3000, 9000, 5000, 7000) * 8]

    def encode(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return encoder(batch, torch.tensor([1500, batch.shape[1], 1600])).layers[1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encode, batches))
    for batch, values in zip(batches, found, strict=True):
        torch.testing.assert_close(values, encode(batch))


class Reader(TorchDispatchMode):
    """Counts what reads a number back, for which one would wait on a device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("family", "norm"), [("Wav2Vec2", "group"), ("WavLM", "layer"), ("Data2VecAudio", "")]
)
def test_training_reads_no_number_back(tmp_path: Path, family: str, norm: str) -> None:
    encoder = load_published(Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "model", family, norm)))))
    with Reader() as reader:
        encoder.train()(torch.randn(2, 9_000, 1), torch.tensor([9_000, 4_000])).values.sum().backward()
    assert reader.count == (0 if family == "WavLM" else 1)  # transformers asks whether all is valid


def test_the_convolutions_stay_and_all_else_learns(tmp_path: Path) -> None:
    encoder = Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "model")))).train()
    frames = encoder(torch.randn(2, 4000, 1), torch.tensor([4000, 3000]))
    frames.values.square().sum().backward()
    still = {name for name, one in encoder.named_parameters() if one.grad is None}
    assert all("feature_extractor" in name or "masked_spec" in name for name in still)
    assert any("feature_extractor" in name for name in still)


@pytest.mark.parametrize("family", ["Wav2Vec2", "WavLM", "Hubert", "Data2VecAudio"])
def test_low_rank_updates_learn_alone_and_start_at_nothing(tmp_path: Path, family: str) -> None:
    folder = str(tiny(tmp_path / "model", family, "layer" if family == "Data2VecAudio" else "group"))
    plain = load_published(Wav2Vec2(Wav2Vec2Settings(model=folder))).eval()
    updated = load_published(Wav2Vec2(Wav2Vec2Settings(model=folder, lora=2)))
    given = torch.randn(2, 4000, 1), torch.tensor([4000, 3000])
    torch.testing.assert_close(updated.eval()(*given).values, plain(*given).values)
    updated.train()(*given).values.square().sum().backward()
    learning = {name: each for name, each in updated.named_parameters() if each.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert all(float(each.grad.abs().sum()) > 0 for name, each in learning.items() if "lora_B" in name)


def test_the_last_blocks_learn_alone(tmp_path: Path) -> None:
    folder = str(tiny(tmp_path / "model"))
    encoder = Wav2Vec2(Wav2Vec2Settings(model=folder, trained_blocks=1)).train()
    encoder(torch.randn(2, 4000, 1), torch.tensor([4000, 3000])).values.square().sum().backward()
    learned = {name for name, each in encoder.named_parameters() if each.grad is not None}
    assert learned
    assert all("layers.1." in name for name in learned)
    with pytest.raises(ConfigError, match="trained_blocks=3"):
        Wav2Vec2(Wav2Vec2Settings(model=folder, trained_blocks=3))


def test_less_memory_gives_the_same_gradient(tmp_path: Path) -> None:
    folder = str(tiny(tmp_path / "model"))
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        settings = Wav2Vec2Settings(model=folder, checkpointing=checkpointing)
        settings.shape.update(STILL)
        encoder = load_published(Wav2Vec2(settings)).train()
        frames = encoder(torch.linspace(-1, 1, 8000).reshape(2, 4000, 1), torch.tensor([4000, 3000]))
        sum(layer.square().sum() for layer in frames.layers).backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_blocks_are_dropped_and_frames_hidden_only_where_asked(tmp_path: Path) -> None:
    folder = str(tiny(tmp_path / "model"))
    given = torch.randn(2, 16_000, 1), torch.tensor([16_000, 16_000])

    def differs(**settings: object) -> bool:
        chosen = Wav2Vec2Settings.model_validate({"model": folder, **settings})
        chosen.shape.update(STILL, mask_time_prob=0.5, mask_time_length=2)
        encoder = load_published(Wav2Vec2(chosen)).train()
        found = [encoder(*given).values for _ in range(8)]
        assert all(len(encoder(*given).layers) == 3 for _ in range(4))
        return any(not torch.equal(found[0], each) for each in found)

    assert not differs()
    assert differs(layer_drop=0.5)
    assert differs(spec_augment=True)


def test_what_is_not_whisper_is_said_and_its_updates_learn(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not Whisper"):
        WhisperSettings(model=str(tiny(tmp_path / "other")))
    folder = save_tiny_whisper(tmp_path / "model", 200)
    encoder = load_published(Whisper(WhisperSettings(model=str(folder), lora=2, checkpointing=True))).train()
    encoder(torch.randn(1, 4000, 1), torch.tensor([4000])).values.square().sum().backward()
    assert all("lora_" in name for name, each in encoder.named_parameters() if each.requires_grad)


def test_a_fixed_encoder_hears_every_utterance_once(
    corpus: Manifest, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many epochs; and from its cache the same recogniser comes out, bit by bit."""
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path / "cache"))
    model, heard = tiny(tmp_path / "model"), []
    forward = Wav2Vec2.forward

    def counted(self: Wav2Vec2, features: torch.Tensor, lengths: torch.Tensor) -> object:
        heard.append(len(features))
        return forward(self, features, lengths)

    monkeypatch.setattr(Wav2Vec2, "forward", counted)
    found = []
    for name, epochs in (("first", 3), ("again", 3), ("longer", 6)):
        settings = finetune_settings(
            None,
            (f"encoder.model={model}", f"train.epochs={epochs}"),
            protocol=str(protocol),
            encoder="wav2vec2",
            frozen=True,
            enrolment=False,
        )
        run = finetune(corpus, settings, tmp_path / name)
        found.append((sum(heard), Recogniser.from_pretrained(run / "recogniser").classifier.state_dict()))
        heard.clear()
    assert [count for count, _ in found] == [len(corpus.table), 0, 0]
    assert all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())


def test_half_precision_on_disk_is_whole_here(tmp_path: Path) -> None:
    import transformers

    given = torch.randn(1, 4000, 1), torch.tensor([4000])
    for folder in (tiny(tmp_path / "one"), save_tiny_whisper(tmp_path / "two", 200)):
        transformers.AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert (
        load_published(Wav2Vec2(Wav2Vec2Settings(model=str(tmp_path / "one"))))(*given).values.dtype
        == torch.float32
    )
    assert (
        load_published(Whisper(WhisperSettings(model=str(tmp_path / "two"))))(*given).values.dtype
        == torch.float32
    )


def test_updates_of_an_encoder_that_stays_are_refused(protocol: Path, tmp_path: Path) -> None:
    model = save_tiny_whisper(tmp_path / "model", 200)
    asked = {"protocol": str(protocol), "encoder": "whisper"}
    with pytest.raises(ConfigError, match="train_encoder=true"):
        finetune_settings(overrides=(f"encoder.model={model}", "encoder.lora=2"), **asked)
    last = WhisperSettings(model=str(model), trained_blocks=1)
    learning = {name for name, each in Whisper(last).named_parameters() if each.requires_grad}
    assert learning
    assert all("layers.1." in name for name in learning)


def test_whisper_is_probed(corpus: Manifest, protocol: Path, tmp_path: Path) -> None:
    settings = finetune_settings(
        None,
        (f"encoder.model={save_tiny_whisper(tmp_path / 'model', 200)}", "train.epochs=1"),
        protocol=str(protocol),
        encoder="whisper",
        frozen=True,
        enrolment=False,
    )
    assert finetune(corpus, settings, tmp_path / "run").done


def test_what_is_no_such_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="download the model elsewhere"):
        Wav2Vec2Settings(model=str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="16000 Hz"):
        Wav2Vec2Settings(model=str(tiny(tmp_path / "slow", rate=8_000)))
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "transformers.utils")
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[transformers\]'"):
        Wav2Vec2Settings(model=str(tmp_path / "slow"))


def test_it_is_pretrained_fine_tuned_and_needs_its_folder_no_more(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    model = tiny(tmp_path / "model")
    pretrained = pretrain(
        corpus,
        pretrain_settings(
            None,
            ("train.epochs=1", "train.batch_size=16", "per_speaker=8", "views.crop_seconds=0.5"),
            groups="text",
            encoder={"name": "wav2vec2", "model": str(model)},
            published_weights=True,
        ),
        tmp_path / "pretrained",
    )
    settings = finetune_settings(
        None,
        ("train.epochs=2",),
        protocol=str(protocol),
        encoder=str(pretrained.path),
        frozen=True,
        enrolment=False,
    )
    run = finetune(corpus, settings, tmp_path / "run")
    shutil.rmtree(model)
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    scores = recogniser.from_file(corpus.roots["toy"] / str(corpus.table["file"][0]))
    assert sum(each["score"] for each in scores) == pytest.approx(1.0, abs=1e-4)
