"""The interface of HEAR: sizes, moments, and the same answers as embed gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from affetto import hear
from affetto.errors import ConfigError
from affetto.finetuning.run import save_recogniser
from affetto.models.checkpoint import save_encoder
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings, build_encoder
from affetto.models.encoder import Encoder
from affetto.models.ge2e import Ge2eSettings
from affetto.models.hub_encoders import Wav2Vec2Settings
from affetto.models.logmel import Cnn, CnnSettings, Tdnn, TdnnSettings
from helpers import recogniser_config

CNN = CnnSettings(width=16, bins=16, blocks=1)
TDNN = TdnnSettings(width=16, bins=16, blocks=1)
WAV2VEC2 = Wav2Vec2Settings(
    shape={
        "model_type": "wav2vec2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 8, 8],
        "conv_stride": [5, 8, 8],
        "conv_kernel": [10, 8, 8],
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer",  # for a group norm looks at all of an utterance
    },
    normalise=False,
)
SEEN: dict[str, Any] = {"with_labels": [], "without_labels": []}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pretrained(folder: Path, encoder: Encoder, settings: Any) -> str:
    facts = {"objective": "multitask", "tasks": {}, "groups": None, "speakers_seen": SEEN}
    save_encoder(folder, encoder, {"encoder": settings.model_dump(mode="json"), **facts})
    return str(folder)


def recogniser(folder: Path, embedder: Any) -> str:
    classifier = EmotionClassifier(ClassifierSettings(embedder=embedder, labels=("joy", "grief")))
    save_recogniser(folder, classifier, recogniser_config(classifier))
    return str(folder)


def models(folder: Path) -> dict[str, str]:
    return {
        "cnn": pretrained(folder / "cnn", Cnn(CNN), CNN),
        "tdnn": pretrained(folder / "tdnn", Tdnn(TDNN), TDNN),
        "recogniser": recogniser(folder / "recogniser", NetworkSettings(encoder=CNN)),
    }


@pytest.mark.parametrize("name", ["cnn", "tdnn", "recogniser"])
@pytest.mark.parametrize("seconds", [0.05, 1.07, 1.98, 4.0])
def test_what_the_validator_of_hear_asks(name: str, seconds: float, tmp_path: Path) -> None:
    model = hear.load_model(models(tmp_path)[name])
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate == 16_000
    audio = 2 * torch.rand(3, int(seconds * 16_000)) - 1
    embeddings, moments = hear.get_timestamp_embeddings(audio, model)
    scenes = hear.get_scene_embeddings(audio, model)
    assert embeddings.dtype == scenes.dtype == moments.dtype == torch.float32
    assert embeddings.shape == (*moments.shape, model.timestamp_embedding_size)
    assert scenes.shape == (3, model.scene_embedding_size)
    steps = moments.diff(dim=1)
    if moments.shape[1] > 1:
        assert float((steps - steps.mean()).abs().max()) < 1
        assert float(moments.max()) <= 1000 * seconds
        assert float(moments.max()) >= 1000 * seconds - 2 * float(steps.mean())
        assert float(moments.min()) < float(steps.mean())


def test_sounds_do_not_change_each_other_and_the_scene_is_the_mean_of_all_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hear, "_TOGETHER_SECONDS", 2.5)  # two sounds, then one
    model = hear.load_model(models(tmp_path)["cnn"])
    audio = 0.1 * torch.randn(3, 16_000)
    embeddings, _ = hear.get_timestamp_embeddings(audio, model)
    alone, _ = hear.get_timestamp_embeddings(audio[2:], model)
    torch.testing.assert_close(embeddings[2:], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        hear.get_scene_embeddings(audio, model), embeddings.mean(1), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(model(audio), hear.get_scene_embeddings(audio, model))


def test_layers_and_the_recognisers_own_vector(tmp_path: Path) -> None:
    paths = models(tmp_path)
    assert hear.load_model(paths["cnn"], layer="all").timestamp_embedding_size == 32
    own = hear.load_model(paths["recogniser"])
    assert (own.scene_embedding_size, own.timestamp_embedding_size) == (32, 16)
    assert hear.load_model(paths["recogniser"], layer=0).scene_embedding_size == 16


def test_what_has_no_frames_embeds_scenes_only() -> None:
    model = hear.load_model("functionals")
    assert model.timestamp_embedding_size == 0
    assert hear.get_scene_embeddings(torch.randn(2, 8000), model).shape == (2, model.scene_embedding_size)
    with pytest.raises(ConfigError, match="no frames"):
        hear.get_timestamp_embeddings(torch.randn(2, 8000), model)


@pytest.mark.parametrize(
    "audio", [torch.zeros(8000), torch.zeros(2, 0), torch.zeros(1, 9, dtype=torch.int16)]
)
def test_audio_of_another_shape_or_type_is_refused(audio: Tensor) -> None:
    with pytest.raises(ConfigError, match="as floats"):
        hear.get_scene_embeddings(audio, hear.load_model("functionals"))


def test_no_path_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="affetto brings none"):
        hear.load_model()
    with pytest.raises(ConfigError, match="did you mean 'ge2e'"):
        hear.load_model("ge2")


@pytest.mark.parametrize(
    ("settings", "before_seconds", "after_seconds"),
    [
        (CNN, 0.05, 0.05),  # of each frame's 40 ms, and the window of the spectrum
        (TDNN, 0.055, 0.055),
        (Ge2eSettings(hidden=16), 0.035, 9.0),  # which remembers
        (WAV2VEC2, 0.02, 0.02),
    ],
)
def test_a_frame_is_about_the_moment_that_it_is_given(
    settings: Any, before_seconds: float, after_seconds: float
) -> None:
    """A click moves frames of the first layer at its own moment, as many before as after."""
    encoder = build_encoder(settings).eval()
    lengths = torch.tensor([32_000])
    quiet = 0.1 * torch.randn(1, 32_000)  # above the level that ge2e raises sounds to
    for moment in np.arange(0.7, 1.1, 0.0173):
        click = quiet.clone()
        click[0, round(moment * 16_000)] += 1.0
        with torch.no_grad():
            heard = [encoder(*encoder.front_end(each, lengths)).layers[0][0] for each in (quiet, click)]
        moved = (heard[1] - heard[0]).abs().amax(1)
        if isinstance(settings, Wav2Vec2Settings):  # behind position convolutions, which look further
            with torch.no_grad():
                values = [encoder._convolved(each, lengths)[0][0] for each in (quiet, click)]  # type: ignore[operator]
            moved = (values[1] - values[0]).abs().amax(1)
        frames = np.flatnonzero((moved > 1e-4 * moved.max()).numpy())
        times = encoder.centre_seconds + encoder.hop_seconds * frames
        assert len(times)
        assert times.min() >= moment - before_seconds
        assert times.max() <= moment + after_seconds
        assert np.abs(times - moment).min() <= encoder.hop_seconds / 2 + 0.013
