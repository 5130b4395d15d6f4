"""Speaker encoders by name; ge2e against the Resemblyzer package itself."""

import math
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import decode
from affetto.corpora import toy
from affetto.errors import CheckpointError, ConfigError, MissingPackageError
from affetto.features import FrontEnd
from affetto.inference.embedding import vectors_of_clips
from affetto.inference.loading import load_speaker
from affetto.inference.pipeline import Plan
from affetto.inference.sources import Clip, Windows
from affetto.models.encoder import Embedder
from affetto.models.representation import Representation

SECONDS = (0.05, 0.4, 1.59, 1.61, 2.2, 2.3, 3.0, 7.7)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.float32]]:
    """Synthetic speech of several lengths and speakers, some of it too quiet for Resemblyzer's taste."""
    manifest = toy.write(tmp_path_factory.mktemp("toy"), speakers=4, sentences=2, takes=1)
    sounds = [decode(path) for path in manifest.paths[:: len(manifest) // len(SECONDS)]]
    long = [
        np.resize(sound, round(16_000 * seconds)) for sound, seconds in zip(sounds, SECONDS, strict=False)
    ]
    return [sound * np.float32(0.02 if row % 3 else 1) for row, sound in enumerate(long)]


def embed(model: Representation, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Embeds utterances as ``annotate speakers`` does."""
    assert model.embedder is not None
    longest = model.embedder.longest_seconds or math.inf
    plan = Plan(Windows(longest=longest), workers=0, batch_seconds=model.embedder.batch_seconds)
    clips = [Clip("", (sound, 16_000)) for sound in sounds]
    return np.stack([vector for _, vector in vectors_of_clips(model, clips, plan) if vector is not None])


@pytest.fixture
def resemblyzer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The Resemblyzer package; its voice detector, whose import needs an old setuptools, is left out."""
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    with warnings.catch_warnings():  # it imports from a place that scipy has moved
        warnings.simplefilter("ignore")
        import resemblyzer
    yield resemblyzer
    for name in [name for name in sys.modules if name.partition(".")[0] == "resemblyzer"]:
        del sys.modules[name]


def test_ge2e_gives_what_resemblyzer_gives(resemblyzer: Any, voices: list[NDArray[np.float32]]) -> None:
    torch.set_num_threads(1)
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False)
    louder = [
        resemblyzer.normalize_volume(voice, -30, increase_only=True).astype(np.float32) for voice in voices
    ]
    expected = np.stack([theirs.embed_utterance(voice) for voice in louder])
    for same in (louder, voices):  # our own front end raises what is too quiet
        vectors = embed(load_speaker("ge2e"), same)
        assert vectors.shape == expected.shape == (len(SECONDS), 256)
        cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(vectors, axis=1)
        assert cosines.min() > 0.99999
    assert (expected @ expected.T)[np.triu_indices(len(expected), 1)].min() < 0.95


def test_a_list_gives_what_each_utterance_gives_alone(voices: list[NDArray[np.float32]]) -> None:
    torch.set_num_threads(1)
    ge2e = load_speaker("ge2e")
    long = np.concatenate(voices * 4)  # more windows than go through at once
    together = embed(ge2e, [*voices, long])
    alone = np.concatenate([embed(ge2e, [voice]) for voice in [*voices, long]])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(long) > 96 * 0.77 * 16_000


class Means(Embedder):
    """Mean, largest value and length; counts how much it gets at once."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end, self.dim = FrontEnd(kind="waveform"), 3
        self.sizes: list[tuple[int, int]] = []

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        self.sizes.append((len(features), features.shape[1]))
        own = [row[:length, 0] for row, length in zip(features, lengths.tolist(), strict=True)]
        return torch.tensor([[row.mean(), row.max(), len(row)] for row in own])


def of_means(batch_seconds: float, longest_seconds: float | None) -> tuple[Representation, Means]:
    means = Means()
    means.batch_seconds, means.longest_seconds = batch_seconds, longest_seconds
    return Representation(None, means, name="means"), means


def noise(seconds: Sequence[float]) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(round(16_000 * each)).astype(np.float32) for each in seconds]


def test_batches_hold_similar_lengths_and_no_more_than_is_liked() -> None:
    model, means = of_means(4.0, None)
    voices = noise([1.0, 0.2, 9.0, 1.1, 0.9, 0.3, 1.0])
    vectors = embed(model, voices)
    expected = [[voice.mean(), voice.max(), len(voice)] for voice in voices]
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-6)
    assert means.sizes == [(4, 16_000), (2, 20_000), (1, 144_000)]  # multiples of 0.25 s


def test_a_long_utterance_is_the_mean_of_its_parts() -> None:
    model, means = of_means(4.0, 2.0)
    short, long = noise([1.0, 5.0])
    vectors = embed(model, [short, long, short])
    parts = np.array_split(long, 3)
    np.testing.assert_allclose(vectors[1, 0], long.mean(), atol=1e-6)
    np.testing.assert_allclose(vectors[1, 1], np.mean([part.max() for part in parts]), rtol=1e-4)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert max(samples for _, samples in means.sizes) <= 2 * 16_000


def test_names_lead_to_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Fake(Means):
        def __init__(self, *arguments: Any) -> None:
            super().__init__()
            self.settings = repr(arguments)
            asked.append(arguments)

    monkeypatch.setattr("affetto.models.speaker_models.OnnxSpeaker", Fake)
    monkeypatch.setattr("affetto.models.speaker_models.XVector", Fake)
    (tmp_path / "Voices.ONNX").write_bytes(b"model")
    (tmp_path / "folder").mkdir()
    one = load_speaker(str(tmp_path / "Voices.ONNX"), taper="povey")
    other = load_speaker(str(tmp_path / "Voices.ONNX"))
    assert one.name == "Voices.ONNX"
    assert one.sha256 != other.sha256
    assert load_speaker(str(tmp_path / "folder")).name == "folder"
    assert load_speaker("owner/model-1.0").name == "owner/model-1.0"
    assert asked == [
        (tmp_path / "Voices.ONNX", "auto", "povey"),
        (tmp_path / "Voices.ONNX", "auto", "hamming"),
        (str(tmp_path / "folder"),),
        ("owner/model-1.0",),
    ]


def test_a_name_that_is_none_of_these_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown speaker encoder 'ge2'; allowed: ge2e, .* did you mean 'ge2e'"
    ):
        load_speaker("ge2")
    with pytest.raises(ConfigError, match=r"nowhere.onnx: no such file"):
        load_speaker("nowhere.onnx")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot use the device 'abacus'"):
        load_speaker("ge2e", device="abacus")


def test_missing_weights_come_with_their_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingPackageError("pip install Resemblyzer")

    monkeypatch.setattr("affetto.models.ge2e.published_weights", missing)
    with pytest.raises(MissingPackageError, match="Resemblyzer"):
        load_speaker("ge2e")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this folder does not give an x-vector model"):
        load_speaker(str(tmp_path))
