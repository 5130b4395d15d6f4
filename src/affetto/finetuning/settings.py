"""Settings of ``finetune``, and the recipes: what each encoder changes of the defaults."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from affetto.augment import AugmentConfig
from affetto.config import Settings, build, merge, override, read
from affetto.errors import ConfigError, ProtocolError, unknown
from affetto.models.checkpoint import encoder_settings, published_encoder
from affetto.models.embedders import (
    EmbedderSettings,
    JoinedSettings,
    NetworkSettings,
    StatisticsSettings,
    build_embedder,
)
from affetto.models.registry import EMBEDDERS, ENCODERS, probed
from affetto.models.representation import JOIN, MEANS_OF, STATISTICS_OF, named_vectors
from affetto.objectives.supervised import ClassifySettings
from affetto.optimising import TrainSettings
from affetto.protocols.protocol import load_protocol


class FinetuneSettings(Settings):
    """Settings of ``finetune``, made by :func:`finetune_settings`."""

    protocol: str  # who is train, dev and test: a name of `affetto protocols`, or a YAML file
    recipe: str = "cnn"  # a name of RECIPES, which decides the defaults of the rest
    frozen: bool = False  # the probe: a weighted sum of layers and one linear layer on its mean learn
    # Trained by gradient; or fitted on fixed vectors, ridge for dimensions such as valence.
    head: Literal["network", "logistic", "svm", "ridge"] = "network"
    # `encoder.width=16` stands for `embedder.encoder.width=16`, as in `pretrain`.
    embedder: EmbedderSettings = NetworkSettings()
    train_encoder: bool = True  # the frames of an encoder that does not learn are cached once
    # Log-mel features are computed once and augmented as frames: less exact than waveforms, and faster.
    reads: Literal["waveforms", "features"] = "waveforms"
    published_weights: bool = False  # whether the encoder starts from them
    # A folder that `pretrain` wrote; of a run of the same protocol, the same seed and fold.
    pretrained: str | None = None
    train: TrainSettings = TrainSettings()
    augment: AugmentConfig = AugmentConfig()
    views: int = Field(1, ge=1, le=8)  # cached for a fixed encoder: itself, and other speeds of augment.speed
    copies: int = Field(0, ge=0, le=8)  # augmented ones of each recording that fixed vectors are learned from
    loss: ClassifySettings = ClassifySettings()
    dropout: float = Field(0.3, ge=0, lt=1)  # share of the embedding hidden in training
    enrolment: bool = True  # whether it can adapt to a speaker from unlabelled utterances
    label_fraction: float = Field(1.0, gt=0, le=1)  # of the training labels, drawn within each class
    seeds: tuple[int, ...] = Field((0,), min_length=1)  # one training each
    head_only: bool = False  # whether published weights that stay as they are are left out of recognisers

    @property
    def untrained(self) -> bool:
        """Whether an encoder that stays fixed has weights that were never trained."""
        learns = isinstance(self.embedder, NetworkSettings) and self.train_encoder
        if learns or self.published_weights or self.pretrained:
            return False
        embedder = build_embedder(self.embedder)
        return any(True for _ in getattr(embedder, "encoder", embedder).parameters())

    @property
    def tunes(self) -> bool:
        """Whether an encoder that starts from weights learns, with nothing but a pooling on top."""
        known = self.published_weights or self.pretrained is not None
        shape = self.embedder
        return known and self.train_encoder and isinstance(shape, NetworkSettings) and not shape.context


SettingsType = TypeVar("SettingsType", bound=FinetuneSettings)

_SOUND = {"gain_db": 6.0, "noise_probability": 0.3, "noise_snr_db": [10, 35], "speed": [0.87, 1.15]}
_MASKS = {"time_masks": 2, "time_mask_frames": 25, "frequency_masks": 2, "frequency_mask_bins": 14}
_FRAMES = {"speed": [0.9, 1.1], "time_masks": 2, "time_mask_frames": 8, "mixup": 0.3}
_COPIES: dict[str, Any] = {"equalise_db": 6.0, "room": 0.4, "telephone": 0.25, "clip": 0.1, "gain_db": 10.0}
_COPIES |= {"noise_probability": 0.6, "noise_snr_db": [5, 35]}  # without speed, which cost 1.5 points on dev
_CONTEXT = {"layers": "all", "context": 2}
_STATISTICS = {"pooling": "statistics"}
_WEIGHTED = {"layers": "weighted", **_STATISTICS}
_FIXED: dict[str, Any] = {"train_encoder": False, "augment": {}}
_TUNED = {"learning_rate": 5e-5, "layer_decay": 0.75, "head_epochs": 1}  # of speech encoders that learn
_PROBE = {"layers": "weighted", "context": 0, "pooling": "mean", "norm": False}


def _network(
    name: str, epochs: int = 25, rate: float = 1e-3, embedder: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Returns the recipe of an encoder; every encoder has at least this one."""
    return {
        "embedder": {"name": "network", "encoder": {"name": name}, **(embedder or {})},
        "augment": _SOUND | _MASKS,
        **more,
        "train": {"epochs": epochs, "learning_rate": rate, **more.get("train", {})},
    }


RECIPES: dict[str, dict[str, Any]] = {
    **{name: _network(name) for name in ENCODERS},
    "cnn": _network("cnn", rate=2e-3),
    "tdnn": _network("tdnn", rate=2e-3, reads="features"),
    "mockingjay": _network("mockingjay", rate=5e-4),
    "filterbank": _network("filterbank", 25, 2e-3, _STATISTICS, **_FIXED),
    "ge2e": _network("ge2e", 8, 5e-4, _CONTEXT),
    "ge2e-spectrum": _network(
        "ge2e-spectrum", 14, 1e-3, _CONTEXT, **_FIXED | {"augment": _FRAMES, "views": 3}
    ),
    "wav2vec2": _network("wav2vec2", 10, 5e-5, _WEIGHTED, train={"batch_size": 16}),
    "whisper": _network("whisper", 10, 1e-3, _WEIGHTED, **_FIXED, train={"batch_size": 16}),
    "whisper-blocks": _network("whisper-blocks", 10, 1e-3, _WEIGHTED, **_FIXED, train={"batch_size": 16}),
    "functionals": {"embedder": {"name": "functionals"}, "head": "svm"},
    "d-vector": {"embedder": {"name": "d-vector"}, "head": "logistic"},
}
"""What ``--encoder`` can name, and what each changes of the defaults of :class:`FinetuneSettings`."""


def finetune_settings(
    file: Path | None = None, overrides: tuple[str, ...] = (), **given: Any
) -> FinetuneSettings:
    """Composes settings: the recipe's defaults, then the file, then what was given, then the overrides.

    Args:
        file: a YAML file of settings.
        overrides: ``"train.epochs=3"`` each.
        given: settings by name; those that are None count as not given. ``encoder="ge2e"`` stands for
            ``recipe="ge2e"``, and may be a folder that ``pretrain`` wrote, or that of a published model.

    Raises:
        ConfigError: for an unknown recipe or setting, or a combination that cannot be.
    """
    asked = asked_for(file, overrides, **given)
    if asked.get("head") != "language" and ("clap" in asked or "language" in asked):
        raise ConfigError("got settings of clap or language without head=language; add it, or leave them out")
    return complete(FinetuneSettings, asked)


def asked_for(file: Path | None, overrides: tuple[str, ...] = (), **given: Any) -> dict[str, Any]:
    """Returns what a file, names and overrides ask for, without defaults; an encoder's name is a recipe."""
    asked: dict[str, Any] = {}
    given = {name: value for name, value in given.items() if value is not None}
    for values in (read(file) if file else {}, given):
        if not isinstance(values.get("encoder", {}), dict):
            values["recipe"] = values.pop("encoder")
        asked = merge(asked, values)
    words = ("recipe" + word[len("encoder") :] if word.startswith("encoder=") else word for word in overrides)
    return override(asked, tuple(words))


def complete(kind: type[SettingsType], asked: dict[str, Any]) -> SettingsType:
    """Lays what :func:`asked_for` returned over the defaults of its recipe, and checks it."""
    try:
        dimensions = bool(load_protocol(str(asked.get("protocol", ""))).dimensions)
    except ProtocolError:  # finetune says which is missing
        dimensions = False
    settings = build(kind, _with_defaults(asked, dimensions))
    _check(settings, dimensions)
    return settings


def _with_defaults(asked: dict[str, Any], dimensions: bool) -> dict[str, Any]:
    asked = dict(asked)
    shape = asked.pop("encoder", {})
    recipe, folder = str(asked.get("recipe", shape.get("name", "cnn"))), None
    parts: list[str] = []  # of fixed vectors
    vectors = named_vectors(recipe)
    if not vectors and recipe not in RECIPES and Path(recipe).is_dir():
        folder = published_encoder(recipe)
        if folder is None:
            asked["pretrained"], folder = recipe, encoder_settings(recipe)
        recipe = folder["name"]
        if recipe == "joined":
            vectors, folder = folder, None
    if vectors:
        every = vectors.get("parts", [vectors])
        parts = [part.get("encoder", part)["name"] for part in every]
        recipe = JOIN.join(
            name + (STATISTICS_OF if part.get("deviation") else MEANS_OF if len(parts) == 1 else "")
            for name, part in zip(parts, every, strict=True)
        )
        if shape and (len(parts) > 1 or "top" in vectors):
            raise ConfigError(
                f"got settings of encoder for {recipe}, which has several or was pretrained with its own; to "
                "choose a model, name its folder in place of the encoder"
            )
    if not vectors and recipe not in RECIPES:
        missing = "" if recipe.isidentifier() else f"; there is no folder {recipe} either"
        raise ConfigError(unknown("encoder", recipe, RECIPES) + missing)
    base: dict[str, Any] = {"embedder": vectors, "head": "logistic"} if vectors else {**RECIPES[recipe]}
    base["recipe"] = recipe
    asked.pop("recipe", None)
    if folder:
        base = merge(base, {"embedder": {"encoder": folder}})
    weights = any((ENCODERS | EMBEDDERS)[part].weights for part in parts or [recipe])
    base["published_weights"] = weights and (bool(vectors) or not asked.get("pretrained"))
    learns = asked.get("train_encoder", base.get("train_encoder", True))
    if asked.get("frozen"):
        if recipe not in probed():
            *names, last = probed()
            raise ConfigError(
                f"--frozen probes the layers of an encoder: {', '.join(names)} or {last}, not {recipe}"
            )
        base = merge(base, {"embedder": _PROBE}) | {"train_encoder": False, "dropout": 0.0, "augment": {}}
        base["train"] = {"epochs": 30, "learning_rate": 5e-3, "weight_decay": 0.0}
    elif recipe in ("wav2vec2", "whisper", "whisper-blocks") and not shape.get("lora") and learns:
        base = merge(base, {"train": _TUNED})
    if dimensions and base.get("head", "network") != "network":
        base["head"] = "ridge"
    if asked.get("head", "network") not in ("network", "language") and base["embedder"]["name"] == "network":
        # A classical head needs fixed vectors: the statistics of the encoder's layers.
        base |= {"embedder": {"name": "statistics", "encoder": base["embedder"]["encoder"]}}
        base |= {"augment": {}, "views": 1}
    if shape:
        base = merge(base, {"embedder": {"encoder": shape}})
    if asked.get("copies") and base["embedder"]["name"] != "network":
        base["augment"] = _COPIES
    return merge(base, asked)


def _check(settings: FinetuneSettings, dimensions: bool) -> None:
    """Refuses what would do nothing, or the other of classes and dimensions than the protocol has."""
    shape, head = settings.embedder, settings.head
    if dimensions and head not in ("network", "ridge"):
        raise ConfigError(
            f"{settings.protocol} asks for dimensions and the head {head} tells classes; choose "
            "--head network or --head ridge"
        )
    if not dimensions and head == "ridge":
        raise ConfigError(
            f"the head ridge tells dimensions and {settings.protocol} asks for classes; choose --head "
            "logistic or --head svm"
        )
    if dimensions and settings.loss != ClassifySettings():
        raise ConfigError(
            "got settings of loss, which are of classes; dimensions are learned by their concordance; leave "
            "them out"
        )
    if settings.head_only and not settings.published_weights:
        raise ConfigError(
            f"got head_only=true; {settings.recipe} starts from no published weights to leave out"
        )
    if settings.head_only and isinstance(shape, NetworkSettings) and settings.train_encoder:
        raise ConfigError("got head_only=true for an encoder that learns; set train_encoder=false as well")
    if settings.pretrained and not isinstance(shape, NetworkSettings | StatisticsSettings | JoinedSettings):
        raise ConfigError(f"{settings.recipe} has no encoder that could start from {settings.pretrained}")
    if isinstance(shape, NetworkSettings) and not settings.train_encoder:
        learning = ("trained_blocks", "lora", "checkpointing", "layer_drop", "spec_augment")
        given = [name for name in learning if getattr(shape.encoder, name, None)]
        plain = TrainSettings()
        rates = ("head_epochs", "layer_decay")
        given += [name for name in rates if getattr(settings.train, name) != getattr(plain, name)]
        if given:
            raise ConfigError(
                f"got {', '.join(given)} for an encoder that stays as it is; leave it out, or set "
                "train_encoder=true"
            )
    if head == "network" and not isinstance(shape, NetworkSettings):
        raise ConfigError(f"{settings.recipe} gives fixed vectors; choose --head logistic or --head svm")
    _check_copies(settings)


def _check_copies(settings: FinetuneSettings) -> None:
    """Refuses augmentation that would change nothing, and copies that would be the recordings themselves."""
    copies, augment = settings.copies, settings.augment
    classical = settings.head in ("logistic", "svm", "ridge")
    if isinstance(settings.embedder, NetworkSettings):
        if copies:
            raise ConfigError(
                f"got copies={copies} for {settings.recipe}, whose recordings are augmented while it trains; "
                "leave it out, or choose fixed vectors such as whisper-statistics"
            )
        return
    if copies and not augment.sound:
        raise ConfigError(
            f"got copies={copies} and settings of augment that change no sound; set some, such as "
            "augment.room=0.4, or leave augment out for the default of copies"
        )
    masks = augment.time_masks or augment.frequency_masks or (augment.mixup and classical)
    if masks or settings.views > 1 or (augment.sound and not copies):
        raise ConfigError(
            f"{settings.recipe} gives fixed vectors, which learn from augmented sound with copies=2 and from "
            "nothing else of augment and views; set copies, or leave them out"
        )
