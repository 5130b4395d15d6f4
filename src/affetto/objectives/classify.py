"""Emotion classification: cross-entropy against one label or a distribution of raters' votes."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.objectives.distributed import mean_over_processes
from affetto.objectives.objective import Task, Views
from affetto.objectives.supervised import Supervised


class ClassifySettings(Settings):
    """How targets are made and weighed.

    Attributes:
        label_smoothing: share of a target that is spread evenly over the classes.
        vote_share: share of a target that raters' votes decide where an utterance has any; the label has the
            rest.
        class_weights: whether rare classes weigh more, by the inverse of their frequency.
        speaker: a second task: ``"auxiliary"``, classifying the training speakers; ``"reversed"``, the same
            with the gradient reversed, so that the embedding hides them; or ``"none"``.
        speaker_weight: its weight.
    """

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    vote_share: float = Field(0.0, ge=0, le=1)
    class_weights: bool = False
    speaker: Literal["none", "auxiliary", "reversed"] = "none"
    speaker_weight: float = Field(0.1, ge=0)


class Classify(Supervised):
    """Cross-entropy of a classifier's scores against target distributions.

    A batch holds the column ``target (B, K)``, and ``speaker (B,)`` for a speaker task.

    ``class_weights (K,)`` are a factor for each class, ones where None. The speaker task is a second loss on
    the classifier's embedding, with the weight ``settings.speaker_weight``.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ClassifySettings,
        augment: AugmentConfig,
        class_weights: Tensor | None = None,
        reads: Reads = "waveforms",
        speaker_task: Task | None = None,
    ) -> None:
        super().__init__(classifier, augment, reads)
        self.weights = {"speaker": settings.speaker_weight}
        self.settings = settings
        self.speaker_task = speaker_task
        classes = len(classifier.settings.labels)
        self.register_buffer("class_weights", torch.ones(classes) if class_weights is None else class_weights)
        self.class_weights: Tensor

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"classification": loss}``, a weighted mean, and ``"speaker"`` with a speaker task."""
        targets = batch.columns["target"]
        smoothing = self.settings.label_smoothing
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        views: Views | None = None
        if self.speaker_task is None:
            vectors, targets = self.embedded(batch, targets)
        else:
            views, targets = self.viewed(batch, targets)
            vectors = views.vectors
        scores = self.classifier.scores(vectors)
        losses = -(targets * self.class_weights * F.log_softmax(scores.float(), dim=1)).sum(1)
        weights = (targets * self.class_weights).sum(1)
        named = {"classification": mean_over_processes(losses.sum(), weights.sum())}
        if self.speaker_task is not None and views is not None:
            named["speaker"] = self.speaker_task(views)
        return named
