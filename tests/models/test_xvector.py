"""x-vector models of transformers, tiny ones with random weights, against their own code one by one."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import CheckpointError, MissingPackageError
from affetto.models.speaker_models import XVector
from speech_models import save_tiny

FAMILIES = ("wavlm group", "wav2vec2 layer", "unispeech-sat group")
SECONDS = (0.9, 0.6, 0.9, 1.3)


def tiny(folder: Path, family: str, normalise: bool = True, rate: int = 16_000) -> Path:
    """Writes an x-vector model of two layers; ``family`` ends in its kind of norm."""
    name, norm = family.split()
    stem = {"wavlm": "WavLM", "wav2vec2": "Wav2Vec2", "unispeech-sat": "UniSpeechSat"}[name]
    return save_tiny(folder, stem, "ForXVector", norm, normalise=normalise, rate=rate)


@pytest.fixture(scope="module")
def voices() -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [
        (0.1 + 0.2 * generator.standard_normal(round(16_000 * seconds))).astype(np.float32)
        for seconds in SECONDS
    ]


def stacked(voices: list[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """The waveforms as a batch, with rubbish in the padding."""
    values = np.full((len(voices), max(map(len, voices)), 1), 7.0, np.float32)
    for row, voice in zip(values, voices, strict=True):
        row[: len(voice), 0] = voice
    return torch.from_numpy(values), torch.tensor([len(voice) for voice in voices])


def close(vectors: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(vectors, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(scope="module", autouse=True)
def _warnings() -> None:
    warnings.filterwarnings("ignore", module=r"torch\..*")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_what_transformers_says_of_each_alone(
    tmp_path: Path, voices: list[NDArray[np.float32]], family: str
) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

    embedder = XVector(str(tiny(tmp_path, family))).eval()
    normalise = AutoFeatureExtractor.from_pretrained(tmp_path)
    theirs = AutoModelForAudioXVector.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        vectors = embedder(*stacked(voices))
        alone = [
            theirs(**normalise(voice, sampling_rate=16_000, return_tensors="pt")).embeddings[0]
            for voice in voices
        ]
        assert vectors.shape == (4, embedder.dim) == (4, 12)
        close(vectors, torch.stack(alone))
        assert torch.nn.functional.cosine_similarity(vectors[0], vectors[2], dim=0) < 0.999
        values, lengths = stacked(voices)
        close(embedder(*embedder.front_end(values[..., 0], lengths)), vectors)


def test_the_input_is_normalised_as_the_preprocessor_config_says(
    tmp_path: Path, voices: list[NDArray[np.float32]]
) -> None:
    other = [3 * voice + 0.5 for voice in voices]
    with torch.inference_mode():
        embedder = XVector(str(tiny(tmp_path / "yes", "wav2vec2 layer"))).eval()
        close(embedder(*stacked(other)), embedder(*stacked(voices)))
        embedder = XVector(str(tiny(tmp_path / "no", "wav2vec2 layer", normalise=False))).eval()
        before, after = embedder(*stacked(voices)), embedder(*stacked(other))
    assert (after - before).abs().max() > 0.05 * before.abs().max()


def test_the_shortest_utterance_has_a_vector(tmp_path: Path) -> None:
    embedder = XVector(str(tiny(tmp_path, "wavlm group"))).eval()
    with torch.inference_mode():
        vectors = embedder(torch.randn(2, 400, 1), torch.tensor([1, 400]))
    assert vectors.isfinite().all()


def test_a_model_without_the_head_is_refused(tmp_path: Path) -> None:
    import transformers

    tiny(tmp_path, "wav2vec2 layer")
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no x-vector head.*wavlm-base-plus-sv"):
        XVector(str(tmp_path))


def test_another_sampling_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="listens at 8000 Hz; 16000 Hz is needed"):
        XVector(str(tiny(tmp_path, "wav2vec2 layer", rate=8000)))


@pytest.mark.parametrize("file", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path, file: str) -> None:
    (tiny(tmp_path, "wav2vec2 layer") / file).unlink()
    with pytest.raises(CheckpointError, match=f"{tmp_path}: this folder does not give an x-vector model"):
        XVector(str(tmp_path))


def test_a_hub_name_that_cannot_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"nobody/nothing: .*the connection, or download the model"):
        XVector("nobody/nothing")


def test_the_missing_package_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto.transformers"):
        XVector("owner/name")
