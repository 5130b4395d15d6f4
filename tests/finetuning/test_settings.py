"""Settings of ``finetune``: what an encoder's name stands for, and which combinations cannot be."""

from pathlib import Path
from typing import Any

import pytest

from affetto.errors import ConfigError
from affetto.finetuning.settings import RECIPES, FinetuneSettings, finetune_settings
from affetto.models.embedders import JoinedSettings, NetworkSettings, StatisticsSettings, build_embedder
from speech_models import save_tiny, save_tiny_whisper

QUIET = {
    **dict.fromkeys(("equalise_db", "room", "telephone", "clip", "gain_db", "noise_probability"), 0),
    "speed": None,
}


@pytest.mark.parametrize("encoder", RECIPES)
def test_every_encoder_has_settings_that_hold(encoder: str, tmp_path: Path) -> None:
    overrides: tuple[str, ...] = ()
    if encoder == "wav2vec2":  # its shape is that of a model, here one made on the spot
        model = save_tiny(tmp_path / "model", "Wav2Vec2", "Model", "group")
        overrides = (f"encoder.model={model}",)
    elif encoder == "whisper":
        overrides = (f"encoder.model={save_tiny_whisper(tmp_path / 'model', 200)}",)
    settings = finetune_settings(None, overrides, protocol="speaker-kfold", encoder=encoder)
    assert settings.recipe == encoder
    without = ("cnn", "tdnn", "mockingjay", "npc", "filterbank", "functionals")
    assert settings.published_weights == (encoder not in without)
    assert (settings.head == "network") == isinstance(settings.embedder, NetworkSettings)


def test_an_encoder_can_be_named_in_the_file_or_by_an_override(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("encoder: ge2e + functionals\ntrain: {epochs: 5}\n", encoding="utf-8")
    by_file = finetune_settings(file, protocol="speaker-kfold")
    assert isinstance(by_file.embedder, JoinedSettings)
    assert by_file.train.epochs == 5
    by_override = finetune_settings(overrides=("encoder=ge2e + functionals",), protocol="speaker-kfold")
    assert by_override == finetune_settings(protocol="speaker-kfold", encoder="ge2e + functionals")
    probe = finetune_settings(overrides=("encoder=ge2e", "frozen=true"), protocol="speaker-kfold")
    assert probe == finetune_settings(protocol="speaker-kfold", encoder="ge2e", frozen=True)


def test_what_is_given_goes_over_the_file_and_overrides_go_over_both(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("label_fraction: 0.5\ntrain: {epochs: 5, clip: 1.0}\n", encoding="utf-8")
    settings = finetune_settings(file, ("train.epochs=7",), protocol="speaker-kfold", label_fraction=0.25)
    assert settings.label_fraction == 0.25
    assert (settings.train.epochs, settings.train.clip) == (7, 1.0)
    assert settings.train.learning_rate == RECIPES["cnn"]["train"]["learning_rate"]


@pytest.mark.parametrize("encoder", ["cnn", "ge2e"])
def test_a_probe_learns_layer_weights_and_one_layer(encoder: str) -> None:
    settings = finetune_settings(protocol="speaker-kfold", encoder=encoder, frozen=True)
    assert isinstance(settings.embedder, NetworkSettings)
    assert (settings.embedder.layers, settings.embedder.pooling) == ("weighted", "mean")
    assert (settings.embedder.context, settings.embedder.norm) == (0, False)
    assert not settings.train_encoder
    assert settings.dropout == 0
    assert settings.augment.speed is None


def test_copies_sound_different_unless_settings_say_how() -> None:
    given = finetune_settings(protocol="speaker-kfold", encoder="ge2e + functionals", copies=2)
    assert given.augment.channel
    words = ("augment.room=0.9",)
    changed = finetune_settings(None, words, protocol="speaker-kfold", encoder="ge2e", head="svm", copies=1)
    assert changed.augment == given.augment.model_copy(update={"room": 0.9})
    assert not finetune_settings(protocol="speaker-kfold", encoder="ge2e-spectrum", head="svm").augment.sound


def test_a_classical_head_on_a_network_takes_the_statistics_of_its_layers() -> None:
    settings = finetune_settings(protocol="speaker-kfold", encoder="ge2e", head="svm")
    assert isinstance(settings.embedder, StatisticsSettings)
    assert settings.embedder.encoder.name == "ge2e"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": "ge2"}, "unknown encoder 'ge2'.*did you mean 'ge2e'"),
        ({"encoder": "functionals", "frozen": True}, "whisper or whisper-blocks, not functionals"),
        ({"encoder": "d-vector", "head": "network"}, "choose --head logistic or --head svm"),
        ({"trian": {}}, "unknown setting 'trian'.*did you mean 'train'"),
        ({"label_fraction": 0.0}, "label_fraction: got 0.0"),
        ({"seeds": []}, "seeds"),
        ({"copies": 2}, "copies=2 for cnn, whose recordings are augmented while it trains"),
        ({"encoder": "functionals", "copies": 1, "augment": QUIET}, "change no sound"),
        ({"encoder": "functionals", "augment": {"room": 0.5}}, "copies=2"),
        ({"encoder": "d-vector", "copies": 1, "augment": {"time_masks": 1}}, "nothing else of augment"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        finetune_settings(protocol="speaker-kfold", **given)


def test_an_unknown_setting_deep_inside_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'embedder.encoder.width'"):
        finetune_settings(overrides=("embedder.encoder.widht=8",), protocol="speaker-kfold")


def test_the_shape_of_an_encoder_is_set_as_in_pretrain(tmp_path: Path) -> None:
    inside = finetune_settings(overrides=("embedder.encoder.width=16",), protocol="speaker-kfold")
    assert inside.embedder.encoder.width == 16
    for overrides in (("encoder.width=16",), ("encoder=cnn", "encoder.width=16")):
        assert finetune_settings(overrides=overrides, protocol="speaker-kfold") == inside
    file = tmp_path / "small.yaml"
    file.write_text("encoder: {name: tdnn, width: 16}\n", encoding="utf-8")
    by_group = finetune_settings(file, protocol="speaker-kfold")
    assert by_group == finetune_settings(
        None, ("encoder.width=16",), protocol="speaker-kfold", encoder="tdnn"
    )
    assert (by_group.recipe, by_group.reads) == ("tdnn", "features")
    probe = finetune_settings(overrides=("encoder.width=16",), protocol="speaker-kfold", head="svm")
    assert isinstance(probe.embedder, StatisticsSettings)
    assert probe.embedder.encoder.width == 16
    with pytest.raises(ConfigError, match=r"unknown setting 'embedder\.encoder'"):
        finetune_settings(overrides=("encoder.width=16",), protocol="speaker-kfold", encoder="functionals")


@pytest.mark.parametrize(
    ("given", "untrained"),
    [
        ({}, False),
        ({"frozen": True}, True),
        ({"encoder": "tdnn", "frozen": True}, True),
        ({"head": "svm"}, True),
        ({"train_encoder": False}, True),
        ({"encoder": "filterbank", "frozen": True}, False),
        ({"encoder": "ge2e", "frozen": True}, False),
        ({"encoder": "ge2e", "frozen": True, "published_weights": False}, True),
        ({"encoder": "functionals"}, False),
        ({"frozen": True, "pretrained": "somewhere"}, False),
    ],
)
def test_fixed_weights_that_were_never_trained_are_known(given: dict[str, object], untrained: bool) -> None:
    assert finetune_settings(protocol="speaker-kfold", **given).untrained == untrained


def test_an_encoder_that_is_no_name_says_what_it_may_be() -> None:
    with pytest.raises(ConfigError, match="there is no folder runs/nope either"):
        finetune_settings(protocol="speaker-kfold", encoder="runs/nope")


def test_statistics_of_any_encoder_and_joined_ones_go_by_name() -> None:
    def of(encoder: str, **more: Any) -> FinetuneSettings:
        return finetune_settings(protocol="speaker-kfold", encoder=encoder, **more)

    one = of("tdnn-statistics", overrides=("encoder.width=16", "embedder.layers=[0, 1]"))
    assert one.recipe == "tdnn-statistics"
    assert isinstance(one.embedder, StatisticsSettings)
    assert (one.embedder.encoder.name, one.embedder.layers, one.head) == ("tdnn", (0, 1), "logistic")
    assert one.embedder.encoder.model_dump()["width"] == 16
    assert one.untrained
    joined = of("ge2e + functionals + cnn-statistics")
    assert joined.recipe == "ge2e + functionals + cnn-statistics"
    assert joined.published_weights
    assert of("ge2e + functionals", head="svm").head == "svm"
    with pytest.raises(ConfigError, match=r"unknown encoder 'ge3e'.*did you mean 'ge2e'.*in 'ge3e \+ cnn'"):
        of("ge3e + cnn")
    with pytest.raises(ConfigError, match=r"settings of encoder for ge2e \+ cnn, which has several"):
        of("ge2e + cnn", overrides=("encoder.width=16",))
    with pytest.raises(ConfigError, match="--frozen probes the layers of an encoder"):
        of("cnn-statistics", frozen=True)
    settings = of("cnn-statistics", overrides=("embedder.layers=[9]",))
    with pytest.raises(ConfigError, match="got layers: 9; this encoder has layers 0 to"):
        build_embedder(settings.embedder)
