"""The network of a recogniser: embedder, head, temperature, and where it was fitted an enrolment."""

from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from affetto.config import Settings, build
from affetto.errors import CheckpointError, ConfigError, unknown
from affetto.models.checkpoint import CONFIG, load_weights, read_config
from affetto.models.embedders import (
    EmbedderSettings,
    Network,
    NetworkSettings,
    build_embedder,
    frame_statistics,
)
from affetto.models.encoder import Frames
from affetto.models.enrolment import SpeakerOffset
from affetto.models.heads import KernelHead, LanguageHead, LanguageSettings, LinearHead, Standardise

Reads = Literal["waveforms", "features", "frames", "vectors"]
"""What reaches a classifier: samples, what its front end made of them, what its encoder made of those, or the
vectors of an embedder that stays as it is."""


class ClassifierSettings(Settings):
    """Shape of :class:`EmotionClassifier`.

    Attributes:
        embedder: what turns an utterance into a vector.
        labels: the classes, or the dimensions, in the order of the scores.
        output: ``"classes"``, of which one is told with its probability; or ``"values"``, a number for each
            dimension, such as valence.
        head: ``"linear"``, ``"kernel"`` or ``"language"``.
        support: support vectors of a kernel head.
        language: shape of a language head.
        standardise: whether embeddings are standardised as fitted in training.
        dropout: share of the embedding hidden in training.
        rank: dimensions in which a speaker's offset is estimated; 0 for a recogniser without enrolment.
    """

    embedder: EmbedderSettings = NetworkSettings()
    labels: tuple[str, ...] = Field(min_length=1)
    output: Literal["classes", "values"] = "classes"
    head: Literal["linear", "kernel", "language"] = "linear"
    support: int = Field(0, ge=0)
    language: LanguageSettings = LanguageSettings()
    standardise: bool = False
    dropout: float = Field(0.3, ge=0, lt=1)
    rank: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.output == "classes" and len(self.labels) < 2:
            raise ValueError(f"got the labels {self.labels}; at least two classes are needed")
        if self.output == "values" and (self.rank or self.head != "linear"):
            raise ValueError("values are told by a linear head, without enrolment")
        return self


class EmotionClassifier(nn.Module):
    """Scores the emotions of utterances: classes, or dimensions.

    An utterance becomes one vector that holds all that scoring needs: the embedding and, where speakers can
    be enrolled and the embedding itself was trained, the statistics of the encoder's frames, in which a
    speaker's offset is estimated (an embedding trained on some speakers tells too little about others).
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = build_embedder(settings.embedder)
        self.front_end = self.embedder.front_end
        dim, classes = self.embedder.dim, len(settings.labels)
        self.standardise = Standardise(dim) if settings.standardise else nn.Identity()
        self.head = _head(settings, dim, classes)
        network = self.embedder if isinstance(self.embedder, Network) else None
        self.statistics_dim = network.statistics_dim if settings.rank and network else 0
        self.enrolment = (
            SpeakerOffset(self.statistics_dim or dim, settings.rank, classes) if settings.rank else None
        )
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("enrolled_temperature", torch.ones(()))
        if settings.output == "values":
            self.register_buffer("centre", torch.zeros(classes))
            self.register_buffer("spread", torch.ones(classes))
        self.temperature: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.enrolled_temperature: Tensor

    @property
    def dim(self) -> int:
        """Size of the vector that :meth:`embed` gives."""
        return self.embedder.dim + self.statistics_dim

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Turns ``features (B, T, F)`` of valid ``lengths (B,)`` into vectors ``(B, D)``."""
        if isinstance(self.embedder, Network):
            return self.embed_frames(self.embedder.encoder(features, lengths))
        return torch.as_tensor(self.embedder(features, lengths))

    def embed_read(self, values: Tensor, lengths: Tensor, reads: Reads) -> Tensor:
        """Turns what was read, ``(B, S)`` or ``(B, T, D)``, into vectors; frames have all layers abreast."""
        if reads == "waveforms":
            return self.embed(*self.front_end(values, lengths))
        if reads == "features":
            return self.embed(values, lengths)
        if reads == "vectors":
            return values[:, 0]
        return self.embed_frames(self.split_layers(values, lengths))

    def split_layers(self, values: Tensor, lengths: Tensor) -> Frames:
        """Turns the layers of the encoder, laid abreast ``(B, T, sum(D_i))``, back into layers."""
        if not isinstance(self.embedder, Network):
            raise TypeError(f"frames are for networks; this embedder is {self.settings.embedder.name}")
        layers = tuple(torch.split(values, list(self.embedder.encoder.layer_dims), dim=2))
        return Frames(layers[-1], lengths, layers)

    def embed_frames(self, frames: Frames) -> Tensor:
        """Turns an encoder's frames into vectors ``(B, D)``: what remains to do once frames are cached."""
        if not isinstance(self.embedder, Network):
            raise TypeError(f"frames are for networks; this embedder is {self.settings.embedder.name}")
        pooled = self.embedder.pool(frames)
        return torch.cat([pooled, frame_statistics(frames)], dim=1) if self.statistics_dim else pooled

    def scores(self, vectors: Tensor) -> Tensor:
        """Scores vectors ``(B, D)`` without knowing their speakers: ``(B, K)``."""
        return torch.as_tensor(self.head(self.standardise(vectors[:, : self.embedder.dim])))

    def fit_scale(self, values: Tensor) -> None:
        """Learns the scale of the dimensions from ``values (N, K)``: in it they have mean 0, variance 1."""
        self.centre.copy_(values.mean(0))
        self.spread.copy_(values.std(0, correction=0).clamp_min(1e-6))

    def standardised(self, values: Tensor) -> Tensor:
        """Returns which scores stand for ``values (B, K)``."""
        return (values - self.centre) / self.spread

    def answers(self, vectors: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Returns what is told of vectors ``(B, D)``: probabilities of classes, or values, ``(B, K)``.

        Args:
            vectors: from :meth:`embed`.
            offsets: see :meth:`probabilities`.
        """
        if self.settings.output == "values":
            return self.centre + self.spread * self.scores(vectors)
        return self.probabilities(vectors, offsets)

    def adaptable(self, vectors: Tensor) -> Tensor:
        """Returns the part of vectors ``(B, D)`` that an offset is subtracted from, ``(B, R)``."""
        if self.enrolment is None:
            raise ValueError(
                "this recogniser was made without enrolment; run finetune without --no-enrolment"
            )
        return self.enrolment.project(vectors[:, self.embedder.dim :] if self.statistics_dim else vectors)

    def offset(self, vectors: Tensor) -> Tensor:
        """Estimates one speaker's offset from the vectors of unlabelled utterances, ``(N, D)``.

        Returns:
            ``(R + 1,)``, as :meth:`~affetto.models.enrolment.SpeakerOffset.estimate` gives it.
        """
        adaptable = self.adaptable(vectors)
        assert self.enrolment is not None
        return self.enrolment.estimate(adaptable, (self.scores(vectors) / self.temperature).log_softmax(1))

    def probabilities(self, vectors: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Returns calibrated class probabilities, ``(B, K)``.

        Args:
            vectors: from :meth:`embed`, ``(B, D)``.
            offsets: of their speakers, ``(B, R + 1)`` or ``(R + 1,)``; None without enrolment.
        """
        scores = self.scores(vectors) / self.temperature
        if offsets is None:
            return scores.softmax(1)
        projected = self.adaptable(vectors)
        assert self.enrolment is not None
        joined = self.enrolment.combine(scores.log_softmax(1), projected, offsets)
        return (joined / self.enrolled_temperature).softmax(1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Scores ``features (B, T, F)``: ``(B, K)``."""
        return self.scores(self.embed(features, lengths))


def _head(settings: ClassifierSettings, dim: int, classes: int) -> LinearHead | KernelHead | LanguageHead:
    if settings.head == "kernel":
        return KernelHead(dim, classes, settings.support)
    if settings.head == "language":
        return LanguageHead(dim, classes, settings.language, settings.dropout)
    return LinearHead(dim, classes, settings.dropout)


def load_classifier(folder: Path) -> tuple[EmotionClassifier, dict[str, Any]]:
    """Rebuilds the network of a recogniser folder, and returns it with its ``config.json``.

    Raises:
        CheckpointError: for a missing or foreign config, and for weights that do not fit it exactly.
    """
    config = read_config(folder)
    kind = config.get("class")
    if kind != EmotionClassifier.__name__:
        raise CheckpointError(f"{folder / CONFIG}: {unknown('class', kind, [EmotionClassifier.__name__])}")
    if not isinstance(config.get("classifier"), dict):
        raise CheckpointError(f"{folder / CONFIG} lacks the group 'classifier', which describes the network")
    try:
        settings = build(ClassifierSettings, config["classifier"])
        classifier = EmotionClassifier(settings)
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no network of this version: {error}") from error
    if list(config.get("labels", settings.labels)) != list(settings.labels):
        raise CheckpointError(
            f"{folder / CONFIG} names its labels twice, and not alike; copy the folder anew"
        )
    load_weights(folder, classifier)
    return classifier.eval().requires_grad_(False), config
