"""What ``finetune`` can train, by name, and the settings that each name stands for."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from affetto.augment import AugmentConfig
from affetto.config import Settings, build, merge, override, read
from affetto.errors import ConfigError, ProtocolError, unknown
from affetto.finetuning.language import LanguageTraining
from affetto.models.embedders import EmbedderSettings, NetworkSettings, StatisticsSettings
from affetto.models.folders import encoder_settings
from affetto.models.language import LanguageSettings
from affetto.models.registry import EMBEDDERS, ENCODERS, probed
from affetto.models.wav2vec2 import Wav2Vec2Settings
from affetto.models.whisper import WhisperSettings
from affetto.objectives.classify import ClassifySettings
from affetto.protocols.protocol import load_protocol
from affetto.training import TrainSettings


class FinetuneSettings(Settings):
    """Everything that ``finetune`` can be told.

    Attributes:
        protocol: who is train, dev and test: a name of ``affetto protocols``, or a YAML file.
        encoder: a name of :data:`METHODS`; it decides the defaults of what follows.
        frozen: the probe: published weights stay; a weighted sum of layers and one linear layer on its mean
            learn.
        head: ``"network"``, trained by gradient; ``"language"``, the same, drawn to words; ``"logistic"`` or
            ``"svm"``, fitted on fixed vectors; ``"ridge"``, the same for dimensions such as valence.
        language: the language head.
        clap: how it is trained.
        embedder: what turns an utterance into a vector.
        train_encoder: whether the encoder learns too; where it does not, its frames are cached once.
        reads: ``"waveforms"``, changed anew at every pass; or ``"features"``, log-mel frames, computed once
            and changed as frames: less exact, and faster.
        published_weights: whether the encoder starts from its published weights.
        pretrained: folder that ``pretrain`` wrote, whose weights the encoder starts from; for a run of the
            same protocol, those of the same seed and fold.
        train: the loop.
        augment: what is done to training utterances.
        views: how many versions of each training utterance are cached for a fixed encoder: itself, and
            versions of other speed within ``augment.speed``.
        loss: targets and their weights.
        dropout: share of the embedding hidden in training.
        enrolment: whether the recogniser can adapt to a speaker from unlabelled utterances.
        rank: dimensions in which a speaker's offset is estimated.
        label_fraction: share of the training utterances whose labels are used, drawn within each class.
        seeds: each trains anew.
    """

    protocol: str
    encoder: str = "cnn"
    frozen: bool = False
    head: Literal["network", "language", "logistic", "svm", "ridge"] = "network"
    language: LanguageSettings = LanguageSettings()
    clap: LanguageTraining = LanguageTraining()
    embedder: EmbedderSettings = NetworkSettings()
    train_encoder: bool = True
    reads: Literal["waveforms", "features"] = "waveforms"
    published_weights: bool = False
    pretrained: str | None = None
    train: TrainSettings = TrainSettings()
    augment: AugmentConfig = AugmentConfig()
    views: int = Field(1, ge=1, le=8)
    loss: ClassifySettings = ClassifySettings()
    dropout: float = Field(0.3, ge=0, lt=1)
    enrolment: bool = True
    rank: int = Field(400, ge=2)
    label_fraction: float = Field(1.0, gt=0, le=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)


_WAVEFORM_AUGMENT = {
    "gain_db": 6.0,
    "noise_probability": 0.3,
    "noise_snr_db": [10, 35],
    "speed": [0.87, 1.15],
    "time_masks": 2,
    "time_mask_frames": 25,
    "frequency_masks": 2,
    "frequency_mask_bins": 14,
}
_FRAME_AUGMENT = {"speed": [0.9, 1.1], "time_masks": 2, "time_mask_frames": 8, "mixup": 0.3}

_PRESETS: dict[str, dict[str, Any]] = {
    "cnn": {
        "embedder": {"name": "network", "encoder": {"name": "cnn"}},
        "train": {"epochs": 25, "learning_rate": 2e-3},
        "augment": _WAVEFORM_AUGMENT,
    },
    "tdnn": {
        "embedder": {"name": "network", "encoder": {"name": "tdnn"}},
        "reads": "features",
        "train": {"epochs": 25, "learning_rate": 2e-3},
        "augment": _WAVEFORM_AUGMENT,
    },
    "mockingjay": {
        "embedder": {"name": "network", "encoder": {"name": "mockingjay"}},
        "train": {"epochs": 25, "learning_rate": 5e-4},
        "augment": _WAVEFORM_AUGMENT,
    },
    "npc": {
        "embedder": {"name": "network", "encoder": {"name": "npc"}},
        "train": {"epochs": 25, "learning_rate": 1e-3},
        "augment": _WAVEFORM_AUGMENT,
    },
    "filterbank": {
        "embedder": {"name": "network", "encoder": {"name": "filterbank"}, "pooling": "statistics"},
        "train_encoder": False,
        "train": {"epochs": 25, "learning_rate": 2e-3},
    },
    "ge2e": {
        "embedder": {"name": "network", "encoder": {"name": "ge2e"}, "layers": "all", "context": 2},
        "published_weights": True,
        "train": {"epochs": 8, "learning_rate": 5e-4},
        "augment": {**_WAVEFORM_AUGMENT, "mixup": 0.0},
    },
    "ge2e-spectrum": {
        "embedder": {"name": "network", "encoder": {"name": "ge2e-spectrum"}, "layers": "all", "context": 2},
        "published_weights": True,
        "train_encoder": False,
        "views": 3,
        "train": {"epochs": 14, "learning_rate": 1e-3},
        "augment": _FRAME_AUGMENT,
    },
    "wav2vec2": {
        "embedder": {
            "name": "network",
            "encoder": {"name": "wav2vec2"},
            "layers": "weighted",
            "pooling": "statistics",
        },
        "published_weights": True,
        "train": {"epochs": 10, "batch_size": 16, "learning_rate": 5e-5},
        "augment": _WAVEFORM_AUGMENT,
    },
    "whisper": {
        "embedder": {
            "name": "network",
            "encoder": {"name": "whisper"},
            "layers": "weighted",
            "pooling": "statistics",
        },
        "published_weights": True,
        "train_encoder": False,
        "train": {"epochs": 10, "batch_size": 16, "learning_rate": 1e-3},
    },
    "functionals": {"embedder": {"name": "functionals"}, "head": "svm"},
    "d-vector": {"embedder": {"name": "d-vector"}, "head": "logistic", "published_weights": True},
    "ge2e-statistics": {
        "embedder": {"name": "joined", "parts": [{"name": "statistics"}, {"name": "functionals"}]},
        "head": "logistic",
        "published_weights": True,
    },
}


def _preset(encoder: str) -> dict[str, Any]:
    """Returns the preset of an encoder that has none of its own."""
    return {
        "embedder": {"name": "network", "encoder": {"name": encoder}},
        "published_weights": ENCODERS[encoder].published,
        "train": {"epochs": 25, "learning_rate": 1e-3},
        "augment": _WAVEFORM_AUGMENT,
    }


METHODS = {name: _PRESETS.get(name) or _preset(name) for name in (*ENCODERS, *EMBEDDERS)}
"""The encoders, and what each changes of the defaults of :class:`FinetuneSettings`."""

_PROBE = {"layers": "weighted", "context": 0, "pooling": "mean", "norm": False}


def finetune_settings(
    file: Path | None = None, overrides: tuple[str, ...] = (), **given: Any
) -> FinetuneSettings:
    """Composes settings: the encoder's defaults, then the file, then what was given, then the overrides.

    Args:
        file: a YAML file of settings.
        overrides: ``"train.epochs=3"`` each.
        given: settings by name; those that are None count as not given.

    Raises:
        ConfigError: for an unknown encoder or setting, or a combination that cannot be.
    """
    asked = merge(
        read(file) if file else {}, {name: value for name, value in given.items() if value is not None}
    )
    asked = override(asked, overrides)
    if isinstance(asked.get("encoder", ""), dict):
        raise ConfigError(
            "encoder is a name, or the folder of a pretrained one; its shape is set by "
            "embedder.encoder.width=16 and the like"
        )
    encoder = str(asked.get("encoder", "cnn"))
    base: dict[str, Any] = {}
    if encoder not in METHODS and Path(encoder).is_dir():
        asked["pretrained"], shape = encoder, encoder_settings(encoder)
        encoder = asked["encoder"] = shape["name"]
        base["embedder"] = {"encoder": shape}
    if encoder not in METHODS:
        missing = "" if encoder.isidentifier() else f"; there is no folder {encoder} either"
        raise ConfigError(unknown("encoder", encoder, METHODS) + missing)
    base = merge(merge({"encoder": encoder}, METHODS[encoder]), base)
    if asked.get("pretrained"):
        base["published_weights"] = False
    if asked.get("frozen"):
        if encoder not in probed():
            *first, last = probed()
            raise ConfigError(
                f"--frozen probes the layers of an encoder: {', '.join(first)} or {last}, not {encoder}"
            )
        base["embedder"] = {**base["embedder"], **_PROBE}
        base |= {"train_encoder": False, "dropout": 0.0, "augment": {}}
        base["train"] = {"epochs": 30, "learning_rate": 5e-3, "weight_decay": 0.0}
    dimensions = _tells_dimensions(str(asked.get("protocol", "")))
    if dimensions and base.get("head", "network") != "network":
        base["head"] = "ridge"
    if asked.get("head") == "language":
        asked = _with_words(asked)
        if base["embedder"]["name"] != "network":
            base |= {"train": {"epochs": 30, "learning_rate": 1e-3}}
    elif "clap" in asked or "language" in asked:
        raise ConfigError("got settings of clap or language without head=language; add it, or leave them out")
    if asked.get("head", "network") not in ("network", "language") and base["embedder"]["name"] == "network":
        # A classical head needs fixed vectors: the statistics of the encoder's layers.
        base["embedder"] = {"name": "statistics", "encoder": base["embedder"]["encoder"]}
    settings = build(FinetuneSettings, merge(base, asked))
    _check(settings, dimensions)
    if settings.head == "network" and not isinstance(settings.embedder, NetworkSettings):
        raise ConfigError(f"{settings.encoder} gives fixed vectors; choose --head logistic or --head svm")
    return settings


def _check(settings: FinetuneSettings, dimensions: bool) -> None:
    """Refuses what would do nothing, or the other thing of classes and dimensions than the protocol asks for.

    Raises:
        ConfigError: that names it.
    """
    shape = settings.embedder
    network = isinstance(shape, NetworkSettings)
    if dimensions and settings.head not in ("network", "ridge"):
        raise ConfigError(
            f"{settings.protocol} asks for dimensions and the head {settings.head} tells classes; choose "
            "--head network or --head ridge"
        )
    if not dimensions and settings.head == "ridge":
        raise ConfigError(
            f"the head ridge tells dimensions and {settings.protocol} asks for classes; choose --head "
            "logistic or --head svm"
        )
    if dimensions and settings.loss != ClassifySettings():
        raise ConfigError(
            "got settings of loss, which are of classes; dimensions are learned by their concordance; leave "
            "them out"
        )
    if settings.pretrained and not isinstance(shape, NetworkSettings | StatisticsSettings):
        raise ConfigError(f"{settings.encoder} has no encoder that could start from {settings.pretrained}")
    encoder = shape.encoder if isinstance(shape, NetworkSettings) else None
    if isinstance(encoder, Wav2Vec2Settings | WhisperSettings) and not settings.train_encoder:
        learning = ("trained_blocks", "lora", "checkpointing", "layer_drop", "spec_augment")
        if given := [name for name in learning if getattr(encoder, name, None)]:
            raise ConfigError(
                f"got {', '.join(given)} for an encoder that stays as it is; leave it out, or set "
                "train_encoder=true"
            )
    if settings.head != "language":
        return
    text, clap = settings.language.text, settings.clap
    if clap.left_out and settings.enrolment:
        raise ConfigError("an emotion that was left out cannot be enrolled with; add --no-enrolment")
    if text is not None and not text.frozen and clap.words != "own":
        raise ConfigError(
            f"clap.words={clap.words} changes vectors of a text encoder that stays as it is; leave out "
            "language.text.frozen=false"
        )
    if clap.control == "none" and settings.loss != ClassifySettings():
        raise ConfigError(
            "got settings of loss, which language-audio training does not look at; leave them out"
        )
    only_mixup = settings.augment == AugmentConfig(mixup=settings.augment.mixup)
    if not network and not (only_mixup and settings.views == 1):
        raise ConfigError(f"{settings.encoder} gives fixed vectors: of augment, only mixup can change them")


def _tells_dimensions(protocol: str) -> bool:
    """Whether the protocol asks for dimensions; one that is not there is for ``finetune`` to name."""
    try:
        return bool(load_protocol(protocol).dimensions)
    except ProtocolError:
        return False


def _with_words(asked: dict[str, Any]) -> dict[str, Any]:
    """Names the default text encoder, unless learned class vectors take its place."""
    if (asked.get("clap") or {}).get("control") == "classes":
        if (asked.get("language") or {}).get("text"):
            raise ConfigError("clap.control=classes learns class vectors; leave out language.text")
        return asked
    language = dict(asked.get("language") or {})
    language["text"] = language.get("text") or {}
    return {**asked, "language": language}
