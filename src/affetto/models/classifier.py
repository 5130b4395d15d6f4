"""The network of a recogniser: embedder, head, temperature, and where it was fitted an enrolment."""

from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from affetto.config import Settings, build
from affetto.errors import CheckpointError, ConfigError, unknown
from affetto.models.checkpoint import CONFIG, load_weights, read_config, weights_sha256
from affetto.models.embedders import EmbedderSettings, Network, NetworkSettings, build_embedder
from affetto.models.encoder import Embedder, Frames, PublishedEncoder
from affetto.models.enrolment import SpeakerOffset
from affetto.models.heads import KernelHead, LanguageHead, LanguageSettings, LinearHead, Standardise
from affetto.models.layers import frame_statistics

# The input of a classifier: samples, features of its front end, frames of its fixed encoder (all layers
# concatenated), or vectors of its fixed embedder.
Reads = Literal["waveforms", "features", "frames", "vectors"]


ELSEWHERE = "weights_elsewhere"
"""Key of a recogniser's ``config.json``: the hashes of published encoders whose weights it lacks, by part."""


class ClassifierSettings(Settings):
    """Shape of :class:`EmotionClassifier`."""

    embedder: EmbedderSettings = NetworkSettings()
    labels: tuple[str, ...] = Field(min_length=1)  # classes, or dimensions, in the order of the scores
    output: Literal["classes", "values"] = "classes"  # probabilities, or a number for each dimension
    head: Literal["linear", "kernel", "language"] = "linear"
    support: int = Field(0, ge=0)  # support vectors of a kernel head
    language: LanguageSettings = LanguageSettings()  # shape of a language head
    standardise: bool = False  # whether embeddings are standardised as fitted in training
    dropout: float = Field(0.3, ge=0, lt=1)  # of the embedding
    enrolment: bool = False  # whether a speaker's offset can be estimated

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.output == "classes" and len(self.labels) < 2:
            raise ValueError(f"got the labels {self.labels}; at least two classes are needed")
        if self.output == "values" and (self.enrolment or self.head != "linear"):
            raise ValueError("values are told by a linear head, without enrolment")
        return self


class EmotionClassifier(nn.Module):
    """Scores the emotions of utterances: classes, or dimensions.

    The vector of an utterance is the embedding and, where speakers can be enrolled and the embedding itself
    was trained, the statistics of the encoder's frames, in which a speaker's offset is estimated.
    """

    def __init__(self, settings: ClassifierSettings, embedder: Embedder | None = None) -> None:
        super().__init__()
        self.settings = settings
        # One of these settings that is there already, with its weights, is not built again.
        self.embedder = build_embedder(settings.embedder) if embedder is None else embedder
        self.front_end = self.embedder.front_end
        dim, classes = self.embedder.dim, len(settings.labels)
        self.standardise = Standardise(dim) if settings.standardise else nn.Identity()
        self.head: LinearHead | KernelHead | LanguageHead
        if settings.head == "kernel":
            self.head = KernelHead(dim, classes, settings.support)
        elif settings.head == "language":
            self.head = LanguageHead(dim, classes, settings.language, settings.dropout)
        else:
            self.head = LinearHead(dim, classes, settings.dropout)
        self.statistics_dim, self.enrolment = 0, None
        if settings.enrolment:
            self.keep_statistics()
            own_head = self.statistics_dim > 0 or settings.head != "language"
            self.enrolment = SpeakerOffset(self.statistics_dim or dim, classes, own_head)
        self.temperature = nn.Buffer(torch.ones(()))
        self.enrolled_temperature = nn.Buffer(torch.ones(()))
        if settings.output == "values":
            self.centre = nn.Buffer(torch.zeros(classes))
            self.spread = nn.Buffer(torch.ones(classes))

    def keep_statistics(self) -> None:
        """Makes the statistics of a network's layers a part of its vectors."""
        if isinstance(self.embedder, Network):
            self.statistics_dim = 2 * sum(self.embedder.encoder.layer_dims)

    def published(self) -> dict[str, PublishedEncoder]:
        """Returns the encoders inside that have published weights, by the names of these parts."""
        parts = self.named_modules()
        return {name: part for name, part in parts if isinstance(part, PublishedEncoder)}

    @property
    def dim(self) -> int:
        """Size of the vector that :meth:`embed` gives."""
        return self.embedder.dim + self.statistics_dim

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Turns ``features (B, T, F)`` of valid ``lengths (B,)`` into vectors ``(B, D)``."""
        if isinstance(self.embedder, Network):
            return self._of_frames(self.embedder.encoder(features, lengths))
        return torch.as_tensor(self.embedder(features, lengths))

    def embed_read(self, values: Tensor, lengths: Tensor, reads: Reads) -> Tensor:
        """Turns ``values (B, S)`` or ``(B, T, D)``, of the kind that ``reads`` names, into vectors."""
        if reads == "waveforms":
            return self.embed(*self.front_end(values, lengths))
        if reads == "features":
            return self.embed(values, lengths)
        if reads == "vectors":
            return values[:, 0]
        return self._of_frames(self.split_layers(values, lengths))

    def split_layers(self, values: Tensor, lengths: Tensor) -> Frames:
        """Splits the concatenated layers of the encoder, ``(B, T, sum(D_i))``.

        Where they are its ``fixed_layers``, it computes the others. One layer alone is the one that is read.
        """
        if not isinstance(self.embedder, Network):
            raise TypeError(f"frames are for networks; this embedder is {self.settings.embedder.name}")
        encoder = self.embedder.encoder
        lower = list(encoder.layer_dims[: encoder.fixed_layers])
        if values.shape[2] == sum(lower):
            return encoder.completed(Frames(torch.split(values, lower, dim=2), lengths))
        if values.shape[2] < sum(encoder.layer_dims):
            return Frames((values,) * len(encoder.layer_dims), lengths)
        return Frames(torch.split(values, list(encoder.layer_dims), dim=2), lengths)

    def _of_frames(self, frames: Frames) -> Tensor:
        assert isinstance(self.embedder, Network)
        pooled = self.embedder.pool(frames)
        return torch.cat([pooled, frame_statistics(frames)], dim=1) if self.statistics_dim else pooled

    def scores(self, vectors: Tensor) -> Tensor:
        """Scores vectors ``(B, D)`` without knowing their speakers: ``(B, K)``."""
        return torch.as_tensor(self.head(self.standardise(vectors[:, : self.embedder.dim])))

    def fit_scale(self, values: Tensor) -> None:
        """Fits the scale in which the dimensions of ``values (N, K)`` have mean 0 and variance 1."""
        self.centre.copy_(values.mean(0))
        self.spread.copy_(values.std(0, correction=0).clamp_min(1e-6))

    def standardised(self, values: Tensor) -> Tensor:
        """Returns the scores that correspond to ``values (B, K)``."""
        return (values - self.centre) / self.spread

    def must_adapt(self) -> None:
        """Raises a ConfigError when no speaker can be enrolled."""
        if self.settings.output == "values":
            raise ConfigError("a recogniser of dimensions enrols nobody; leave the enrolment out")
        if self.enrolment is None:
            raise ConfigError(
                "this recogniser was made without enrolment (run finetune without --no-enrolment), or is a "
                "trained network asked with --prompts, which know no enrolment there"
            )

    def adaptable(self, vectors: Tensor) -> Tensor:
        """Returns the part of vectors ``(B, D)`` that an offset is subtracted from."""
        self.must_adapt()
        return vectors[:, self.embedder.dim :] if self.statistics_dim else vectors

    def offset(self, vectors: Tensor) -> Tensor:
        """Estimates one speaker's offset, ``(D + 1,)``, from vectors ``(N, D)`` of unlabelled utterances."""
        adaptable = self.adaptable(vectors)
        assert self.enrolment is not None
        return self.enrolment.estimate(adaptable, (self.scores(vectors) / self.temperature).log_softmax(1))

    def answers(self, vectors: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Returns calibrated probabilities of classes, or values of dimensions, of vectors ``(B, D)``.

        ``offsets`` are of their speakers, ``(B, D + 1)`` or ``(D + 1,)``; None without enrolment.
        """
        if self.settings.output == "values":
            return self.centre + self.spread * self.scores(vectors)
        scores = self.scores(vectors) / self.temperature
        if offsets is None:
            return scores.softmax(1)
        adaptable = self.adaptable(vectors)
        assert self.enrolment is not None
        joined = self.enrolment.combine(scores.log_softmax(1), adaptable, offsets, self.calibrated)
        return (joined / self.enrolled_temperature).softmax(1)

    def calibrated(self, standard: Tensor) -> Tensor:
        """Scores standardised embeddings ``(B, D)`` at the temperature: ``(B, K)``."""
        return torch.as_tensor(self.head(standard)) / self.temperature


def load_classifier(folder: Path, encoder: str = "") -> tuple[EmotionClassifier, dict[str, Any]]:
    """Rebuilds the network of a recogniser folder, and returns it with its ``config.json``.

    ``encoder`` is the folder, or the hub id, of a published encoder whose weights the folder lacks.
    """
    config = read_config(folder)
    kind = config.get("class")
    if kind != EmotionClassifier.__name__:
        raise CheckpointError(f"{folder / CONFIG}: {unknown('class', kind, [EmotionClassifier.__name__])}")
    if not isinstance(config.get("classifier"), dict):
        raise CheckpointError(f"{folder / CONFIG} lacks the group 'classifier', which describes the network")
    elsewhere = config.get(ELSEWHERE, {})
    if encoder:
        _name_model(folder, config["classifier"]["embedder"] if elsewhere else {}, encoder)
    try:
        settings = build(ClassifierSettings, config["classifier"])
        classifier = EmotionClassifier(settings)
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no network of this version: {error}") from error
    if config.setdefault("labels", list(settings.labels)) != list(settings.labels):
        message = "names its labels twice, and not alike; copy the folder anew"
        raise CheckpointError(f"{folder / CONFIG} {message}")
    for name, sha256 in elsewhere.items():
        _load_elsewhere(classifier.published()[name], sha256)
    load_weights(folder, classifier, tuple(elsewhere))
    return classifier.eval().requires_grad_(False), config


def _name_model(folder: Path, embedder: dict[str, Any], model: str) -> None:
    """Changes which model the encoder of an embedder is."""
    parts = embedder.get("parts", [embedder])
    named = [part["encoder"] for part in parts if "model" in part.get("encoder", {})]
    if len(named) != 1:
        raise ConfigError(f"got encoder.model={model}; {folder} needs no model from elsewhere; leave it out")
    named[0]["model"] = model


def _load_elsewhere(part: PublishedEncoder, sha256: str) -> None:
    """Fills an encoder with its published weights; raises a CheckpointError where they are others."""
    model = getattr(getattr(part, "settings", None), "model", "")
    try:
        part.load_published()
    except CheckpointError as error:
        raise CheckpointError(f"{error}, as encoder.model=FOLDER" if model else str(error)) from error
    if (found := weights_sha256(part)) != sha256:
        raise CheckpointError(
            f"{model or type(part).__name__}: its weights are not those that this recogniser was made with "
            f"(SHA-256 {found[:12]}, not {sha256[:12]}); take the version that its README.md names"
        )
