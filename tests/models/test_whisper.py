"""Whisper's encoder: its log-mel and its layers beside those of transformers, at the length of utterances."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from affetto.audio import decode
from affetto.errors import CheckpointError, ConfigError
from affetto.models.embedders import StatisticsSettings, build_embedder, load_published
from affetto.models.encoder import Frames
from affetto.models.hub_encoders import Whisper, WhisperSettings
from affetto.models.logmel import CnnSettings
from affetto.models.whisper import (
    WhisperBlocks,
    WhisperBlocksSettings,
    in_whole_numbers,
    whole_numbers_undone,
)
from speech_models import save_tiny_whisper

LENGTHS = (1, 640, 20_000, 31_990, 32_000, 70_000)  # the tiny model hears 32,000 samples at once


def noise(size: int) -> Tensor:
    """Noise that ends in a click, which lies between the last frame and the one after."""
    made = 0.2 * torch.randn(size, generator=torch.Generator().manual_seed(size))
    made[-1] = 1.0
    return made


def batch(waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stacks waveforms, with rubbish in the padding."""
    lengths = torch.tensor([len(each) for each in waveforms])
    return pad_sequence(waveforms, batch_first=True, padding_value=7.0)[:, :, None], lengths


def built(folder: Path, **settings: object) -> Whisper:
    return load_published(Whisper(WhisperSettings.model_validate({"model": str(folder), **settings}))).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper") / "model", 200)


def test_the_log_mel_is_that_of_the_library(model: Path) -> None:
    inputs = transformers.AutoFeatureExtractor.from_pretrained(model)
    waveforms = [noise(size) for size in LENGTHS[:-1]] + [torch.zeros(8000)]
    together = built(model).spectra(pad_sequence(waveforms, batch_first=True))
    for row, waveform in zip(together, waveforms, strict=True):
        expected = inputs(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[0].T
        count = -(-len(waveform) // 160)
        for found in (row, built(model).spectra(waveform[None])[0]):
            torch.testing.assert_close(found[:count], expected[:count], rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [0, 2])
def test_layers_are_those_of_the_library(model: Path, window: int) -> None:
    """In windows filled with silence; and where an utterance fills its window, without them too."""
    inputs = transformers.AutoFeatureExtractor.from_pretrained(model)
    network = transformers.AutoModel.from_pretrained(model).eval().encoder
    waveforms = [noise(size) for size in (LENGTHS if window else (32_000, 64_000))]
    with torch.no_grad():
        frames = built(model, window=window)(*batch(waveforms))
        for row, waveform in enumerate(waveforms):
            parts = [part.numpy() for part in waveform.split(32_000)]
            given = inputs(parts, sampling_rate=16_000, return_tensors="pt")
            expected = network(**given, output_hidden_states=True).hidden_states
            count = -(-len(waveform) // 320)
            assert int(frames.lengths[row]) == count
            for found, wanted in zip(frames.layers, expected, strict=True):
                whole = wanted.flatten(0, 1)[:count]
                torch.testing.assert_close(found[row, :count], whole, rtol=1e-4, atol=1e-4)
                assert not found[row, count:].any()
    assert frames.values[0, :10].std() > 0.1


def test_a_long_utterance_goes_through_in_parts(model: Path) -> None:
    encoder, waveform = built(model), noise(70_000)
    with torch.no_grad():
        # Batch mates that are longer or shorter, and so have more parts or fewer, change nothing.
        frames = encoder(*batch([noise(640), waveform, noise(100_000)]))
        for layer, name in enumerate(frames.layers):
            alone = [encoder(*batch([part])).layers[layer][0] for part in waveform.split(32_000)]
            torch.testing.assert_close(name[1, :219], torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert frames.lengths.tolist() == [2, 219, 313]


def test_silence_gives_numbers(model: Path) -> None:
    for window in (0, 1):
        frames = built(model, window=window)(torch.zeros(2, 8000, 1), torch.tensor([8000, 640]))
        assert torch.isfinite(frames.values).all()


def test_a_window_longer_than_the_model_hears_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"window=30; .* at most 2 s"):
        built(model, window=30)


def first_blocks(folder: Path, **settings: int) -> WhisperBlocks:
    shape = {"model": str(folder), "blocks": 1, "width": 16, "heads": 2, "feed_forward": 32, **settings}
    return load_published(WhisperBlocks(WhisperBlocksSettings.model_validate(shape))).eval()


def test_first_blocks_are_those_of_the_whole(model: Path) -> None:
    given = batch([noise(size) for size in LENGTHS[:-1]])
    with torch.no_grad():
        whole, first = built(model)(*given), first_blocks(model)(*given)
    assert torch.equal(whole.lengths, first.lengths)
    assert len(first.layers) == 2
    for layer, expected in zip(first.layers, whole.layers, strict=False):
        torch.testing.assert_close(layer, expected, rtol=1e-4, atol=1e-5)


def test_first_blocks_of_another_shape_are_refused(model: Path, tmp_path: Path) -> None:
    for settings, words in (
        ({"blocks": 3}, r"missing: layers\.2\."),
        ({"feed_forward": 24}, r"misshapen: layers\.0\.fc1\.bias \(32,\) instead of \(24,\)"),
    ):
        with pytest.raises(CheckpointError, match=words):
            first_blocks(model, **settings)
    with pytest.raises(CheckpointError, match=r"holds neither encoder\.safetensors nor model\.safetensors"):
        first_blocks(tmp_path)


@torch.no_grad()
def test_levelled_vectors_depend_neither_on_gain_and_offset_nor_much_on_pauses(model: Path) -> None:
    encoder = WhisperBlocksSettings(model=str(model), blocks=1, width=16, heads=2, feed_forward=32)
    voice = 0.05 * noise(16_000) * torch.linspace(0.2, 1, 16_000)

    def vectors(waveform: Tensor, levelled: bool) -> Tensor:
        settings = StatisticsSettings(encoder=encoder, layers=(0,), deviation=False, levelled=levelled)
        embedder = load_published(build_embedder(settings)).eval()
        return embedder(*embedder.front_end(waveform[None], torch.tensor([len(waveform)])))[0]

    plain, paused = vectors(voice, True), torch.cat([voice, 1e-4 * noise(8000)[:-1]])
    for changed in (10 * voice, 0.1 * voice, voice + 0.1):
        torch.testing.assert_close(vectors(changed, True), plain, rtol=0, atol=1e-5)
        assert (vectors(changed, False) - vectors(voice, False)).abs().max() > 1e-3
    off = [(vectors(paused, levelled) - vectors(voice, levelled)).norm() for levelled in (True, False)]
    assert off[0] < 0.1 * off[1]
    with pytest.raises(ConfigError, match=r"levelled=true for cnn, which reads logmel; it is for encoders"):
        build_embedder(StatisticsSettings(encoder=CnnSettings(), levelled=True))


def test_whole_numbers_are_off_by_half_a_step_at_most() -> None:
    tensors = {"matrix": torch.randn(5, 7), "filters": torch.randn(3, 2, 4), "bias": torch.randn(5)}
    tensors["matrix"][2] = 0
    kept = in_whole_numbers(tensors)
    assert kept["filters"].dtype == torch.int8
    found = whole_numbers_undone(kept)
    assert found.keys() == tensors.keys()
    assert torch.equal(found["bias"], tensors["bias"])
    for name in ("matrix", "filters"):
        largest = tensors[name].flatten(1).abs().amax(1)
        off = (found[name] - tensors[name]).flatten(1).abs().amax(1)
        assert (off <= 0.501 * largest / 127).all()


@pytest.mark.corpora
def test_published_weights_on_real_speech(corpora_root: Path) -> None:
    folder = corpora_root.parent / "models" / "whisper-base"
    if not folder.is_dir():
        pytest.skip("no published weights of Whisper beside the recordings")
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)
    files = sorted((corpora_root / "emodb" / "wav").iterdir())[:3]
    waveforms = [torch.from_numpy(decode(file)) for file in files]
    filled = built(folder, window=30)
    with torch.no_grad():
        given = inputs([each.numpy() for each in waveforms], sampling_rate=16_000, return_tensors="pt")
        spectra = filled.spectra(pad_sequence(waveforms, batch_first=True))
        wanted = filled.network(**given, output_hidden_states=True).hidden_states
        found = filled(*batch(waveforms))
    for row, count in enumerate(found.lengths.tolist()):
        expected = given.input_features[row].T[: 2 * count - 1]
        torch.testing.assert_close(spectra[row, : 2 * count - 1], expected, rtol=0, atol=1e-5)
        for own, theirs in zip(found.layers, wanted, strict=True):
            scale = float(theirs.abs().max())  # of single channels, hundreds
            torch.testing.assert_close(own[row, :count], theirs[row, :count], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("trained", [1, 2])
def test_the_blocks_that_learn_go_on_from_lower_layers(model: Path, trained: int) -> None:
    encoder = built(model, trained_blocks=trained)
    assert encoder.fixed_layers == 3 - trained
    given = batch([noise(size) for size in LENGTHS])  # the longest of which goes through in three parts
    whole = encoder(*given)
    found = encoder.completed(Frames(whole.layers[: encoder.fixed_layers], whole.lengths))
    assert torch.equal(found.lengths, whole.lengths)
    for layer, expected in zip(found.layers, whole.layers, strict=True):
        torch.testing.assert_close(layer, expected, rtol=0, atol=1e-6)
    found.values.square().sum().backward()
    gradients = [each.grad for each in encoder.parameters() if each.requires_grad]
    assert len(gradients) == trained * len(list(encoder.network.layers[0].parameters()))
    assert all(each is not None for each in gradients)


def test_nothing_is_kept_of_windows_filled_with_silence_or_of_an_encoder_that_learns(model: Path) -> None:
    for settings in ({"trained_blocks": 1, "window": 2}, {"trained_blocks": 0}, {}):
        assert built(model, **settings).fixed_layers == 0
