"""Encoders of transformers, tiny ones with random weights, against the library's own forward."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError, MissingPackageError
from affetto.inference import Recogniser
from affetto.models.embedders import load_published
from affetto.models.wav2vec2 import Wav2Vec2, Wav2Vec2Settings
from affetto.recipes.finetune import finetune
from affetto.recipes.methods import finetune_settings
from affetto.recipes.pretrain import pretrain
from affetto.recipes.tasks import pretrain_settings
from speech_models import save_tiny


def tiny(folder: Path, family: str = "Wav2Vec2", norm: str = "group", rate: int = 16_000) -> Path:
    return save_tiny(folder, family, "Model", norm, rate=rate)


@pytest.mark.parametrize(
    ("family", "norm"),
    [("Wav2Vec2", "group"), ("Wav2Vec2", "layer"), ("WavLM", "group"), ("Hubert", "group"),
     ("UniSpeechSat", "group")],
)  # fmt: skip
def test_every_layer_is_that_of_the_library(tmp_path: Path, family: str, norm: str) -> None:
    import transformers

    folder = tiny(tmp_path / "model", family, norm)
    encoder = load_published(Wav2Vec2(Wav2Vec2Settings(model=str(folder)))).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    generator = np.random.default_rng(0)
    voices = [0.1 + 0.2 * generator.standard_normal(size).astype(np.float32) for size in (9_000, 14_400)]
    lengths = torch.tensor([len(voice) for voice in voices])
    batch = torch.full((2, 14_400, 1), 7.0)  # rubbish in the padding
    for row, voice in enumerate(voices):
        batch[row, : len(voice), 0] = torch.from_numpy(voice)
    with torch.no_grad():
        frames = encoder(batch, lengths)
        for row, voice in enumerate(voices):
            given = inputs(voice, sampling_rate=16_000, return_tensors="pt")
            expected = network(**given, output_hidden_states=True)
            count = int(frames.lengths[row])
            assert count == expected.last_hidden_state.shape[1]
            for found, wanted in zip(frames.all_layers[:-1], expected.hidden_states, strict=False):
                torch.testing.assert_close(found[row, :count], wanted[0], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(
                frames.values[row, :count], expected.last_hidden_state[0], rtol=1e-3, atol=1e-4
            )
    assert len(frames.all_layers) == 3
    assert frames.values[0].std() > 0.1


def test_several_threads_do_not_mix_their_layers(tmp_path: Path) -> None:
    encoder = Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "model")))).eval()
    batches = [torch.randn(3, size, 1) for size in (3000, 9000, 5000, 7000) * 8]

    def encode(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return encoder(batch, torch.tensor([1500, batch.shape[1], 1600])).all_layers[1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encode, batches))
    for batch, values in zip(batches, found, strict=True):
        torch.testing.assert_close(values, encode(batch))


def test_the_convolutions_stay_and_all_else_learns(tmp_path: Path) -> None:
    encoder = Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "model")))).train()
    frames = encoder(torch.randn(2, 4000, 1), torch.tensor([4000, 3000]))
    frames.values.square().sum().backward()
    still = {name for name, one in encoder.named_parameters() if one.grad is None}
    assert all("feature_extractor" in name or "masked_spec" in name for name in still)
    assert any("feature_extractor" in name for name in still)


def test_what_is_no_such_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="download the model elsewhere"):
        Wav2Vec2Settings(model=str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="16000 Hz"):
        Wav2Vec2Settings(model=str(tiny(tmp_path / "slow", rate=8_000)))
    with pytest.raises(CheckpointError, match="padding would change answers"):
        Wav2Vec2(Wav2Vec2Settings(model=str(tiny(tmp_path / "data2vec", "Data2VecAudio", "layer"))))
    monkeypatch.setitem(sys.modules, "transformers", None)
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
