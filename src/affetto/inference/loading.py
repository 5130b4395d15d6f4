"""Loads representations: a pretrained encoder, a recogniser, an encoder by its name, a speaker encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from affetto.config import Settings, load, override
from affetto.errors import CheckpointError, ConfigError, unknown
from affetto.models.checkpoint import (
    CONFIG,
    HUB_ID,
    SHIPPED,
    encoder_settings,
    fill_encoder,
    find_encoder,
    find_recogniser,
    published_encoder,
    read_config,
)
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.embedders import (
    EmbedderSettings,
    EncoderSettings,
    Joined,
    Network,
    Statistics,
    StatisticsSettings,
    build_embedder,
    build_encoder,
    load_published,
)
from affetto.models.encoder import Embedder, Encoder, chosen_device
from affetto.models.ge2e import Course, DVector, Ge2e
from affetto.models.registry import EMBEDDERS, ENCODERS, SPEAKERS
from affetto.models.representation import Layer, Representation, named_vectors

NAMES = (*ENCODERS, *EMBEDDERS)
"""Encoders and embedders that go by a name; those with published weights come with them."""


_MODEL = "encoder.model="


class _EncoderChoice(Settings):
    encoder: EncoderSettings


class _EmbedderChoice(Settings):
    encoder: EmbedderSettings


def load_representation(
    name: str | Path, layer: Layer | None = None, settings: Sequence[str] = (), device: str = "auto"
) -> Representation:
    """Loads what turns sound into vectors: a folder of ``pretrain``, a recogniser, or one of ``NAMES``.

    A folder may also hold a model of Hugging Face transformers that these names stand for. A recogniser gives
    the vector that its head reads; its encoder's frames, or their mean, where frames or a ``layer`` are asked
    for. ``settings`` are of an encoder by name, ``"encoder.model=microsoft/wavlm-base"``; a recogniser takes
    that one where it lacks the weights of its encoder.
    """
    path = Path(name)
    if vectors := named_vectors(str(name)):
        made = _of_name(vectors, layer, settings, str(name))
    elif str(name) in NAMES:
        made = _of_name({"name": str(name)}, layer, settings, str(name))
    elif published := published_encoder(path):
        made = _of_name(published, layer, settings, path.resolve().name)
    elif name in SHIPPED or path.is_dir():
        made = _of_folder(find_recogniser(name) if name in SHIPPED else path, layer, settings)
    else:
        raise ConfigError(
            unknown("encoder", name, [*NAMES, *SHIPPED, "a folder that pretrain or finetune wrote"])
        )
    return _ready(made, device)


def load_speaker(
    name: str, device: str = "auto", taper: Literal["povey", "hamming"] = "hamming"
) -> Representation:
    """Loads a speaker encoder.

    ``name`` is one of ``SPEAKERS``, with the Resemblyzer weights; an ``.onnx`` file that takes 80-bin Kaldi
    filterbanks, made with the window ``taper``; an x-vector model of transformers, a folder or a hub id; or
    any other name of an encoder, the mean of whose last layer it then is, or of fixed vectors.
    """
    path, shown = Path(name), name
    embedder: Embedder
    if name == "ge2e":
        embedder = DVector()
    elif name == "ge2e-statistics":
        embedder = Statistics(StatisticsSettings())
    elif name == "ge2e-content":
        embedder = Course(Ge2e(), 1, 8)
    elif path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; name the ONNX file of a speaker model")
        from affetto.models.speaker_models import OnnxSpeaker

        embedder, shown = OnnxSpeaker(path, device, taper), path.name
    elif path.is_dir() or HUB_ID.fullmatch(name):
        from affetto.models.speaker_models import XVector

        embedder, shown = XVector(name), path.resolve().name if path.is_dir() else name
    elif (vectors := named_vectors(name)) or name in ENCODERS:
        return _ready(_of_name(vectors or {"name": name}, None, (), name), device)
    else:
        kinds = (*SPEAKERS, "FILE.onnx", "a folder with an x-vector model", "a hub id such as owner/name")
        raise ConfigError(unknown("speaker encoder", name, kinds))
    return _ready(Representation(None, load_published(embedder), name=shown), device)


def _ready(made: Representation, device: str) -> Representation:
    return made.to(chosen_device(device)).eval().requires_grad_(False)


def _of_folder(path: Path, layer: Layer | None, settings: Sequence[str]) -> Representation:
    shown = path.resolve().name
    if (path / CONFIG).exists() and read_config(path).get("class") == EmotionClassifier.__name__:
        embedder = load_classifier(path, model_word(settings))[0].embedder
        assert isinstance(embedder, Embedder)
        encoder = embedder.encoder if isinstance(embedder, Network) else None
        return Representation(encoder, embedder, layer, shown)
    if settings:
        raise ConfigError(
            f"got settings for {path}; this folder has its own, only names and published models take any"
        )
    folder = find_encoder(path)
    try:
        asked = {"encoder": encoder_settings(folder)}
        if asked["encoder"].get("name") == "joined":
            joined = load_published(build_embedder(load(_EmbedderChoice, asked).encoder))
            assert isinstance(joined, Joined)
            assert joined.top is not None
            fill_encoder(folder, joined.top)
            return Representation(None, joined, layer, shown)
        encoder = build_encoder(load(_EncoderChoice, asked).encoder)
    except (ConfigError, KeyError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no encoder of this version: {error}") from error
    fill_encoder(folder, encoder)
    return Representation(encoder, None, layer, shown)


def model_word(settings: Sequence[str]) -> str:
    """Returns FOLDER of the only setting that a recogniser takes, ``"encoder.model=FOLDER"``; else ``""``."""
    if settings and (len(settings) > 1 or not settings[0].startswith(_MODEL)):
        raise ConfigError(f"got {' '.join(settings)}; a recogniser takes {_MODEL}FOLDER and no other setting")
    return settings[0].removeprefix(_MODEL) if settings else ""


def _of_name(
    asked: dict[str, Any], layer: Layer | None, settings: Sequence[str], shown: str
) -> Representation:
    network: Encoder | Embedder
    if settings and asked["name"] == "joined":
        raise ConfigError(
            f"got settings for {shown}, which has several encoders; to choose a model, name its folder in "
            "place of the encoder"
        )
    # Of statistics, settings are those of their encoder.
    inside = asked["name"] == "statistics"
    values: dict[str, Any] = (
        {"encoder": override(asked, settings)} if inside else override({"encoder": asked}, settings)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # one without weights of its own is the same every time
        if asked["name"] in ENCODERS:
            network = build_encoder(load(_EncoderChoice, values).encoder)
        else:
            network = build_embedder(load(_EmbedderChoice, values).encoder)
    published = any(hasattr(module, "load_published") for module in network.modules())
    untrained = not published and any(True for _ in network.parameters())
    load_published(network)
    encoder, embedder = (network, None) if isinstance(network, Encoder) else (None, network)
    return Representation(encoder, embedder, layer, shown, untrained)
