"""What trains a recogniser on labels: cross-entropy of classes, concordance of dimensions."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.augment_features import augment_spectra
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Network
from affetto.models.encoder import Frames
from affetto.objectives.distributed import gathered, mean_over_processes
from affetto.objectives.objective import Objective, Task, Views, new_generator


class Supervised(Objective):
    """An objective on a classifier; in training, batches are augmented and mixed before they are embedded."""

    def __init__(self, classifier: EmotionClassifier, augment: AugmentConfig, reads: Reads) -> None:
        super().__init__()
        if not isinstance(classifier.embedder, Network) and reads != "vectors":
            raise TypeError("only networks are trained by gradient; this embedder gives fixed vectors")
        self.weights = {}
        self.classifier, self.augment, self.reads = classifier, augment, reads

    def embedded(self, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns vectors ``(B, D)``, and the targets ``(B, K)``, mixed as the utterances were."""
        if self.reads == "vectors":
            values, lengths, augment = batch.values, batch.lengths, self.augment
            if self.training:
                values, _, targets = mixup(values, lengths, targets, augment.mixup, new_generator())
            return values[:, 0], targets
        views, targets = self.viewed(batch, targets)
        return views.vectors, targets

    def viewed(self, batch: Batch, targets: Tensor) -> tuple[Views, Tensor]:
        """Returns the same, together with features and frames, as a single view of each utterance."""
        frames, features, lengths, targets = self._frames(batch, targets)
        assert isinstance(self.classifier.embedder, Network)
        vectors = self.classifier.embedder.pool(frames)
        return Views(vectors, frames, features, lengths, batch.index, batch.columns), targets

    def _frames(self, batch: Batch, targets: Tensor) -> tuple[Frames, Tensor, Tensor, Tensor]:
        generator = new_generator()
        values, lengths, augment = batch.values, batch.lengths, self.augment
        embedder, front_end = self.classifier.embedder, self.classifier.front_end
        if self.reads == "frames":
            if self.training:
                values = spec_augment(values, lengths, augment, generator)
                values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
            return self.classifier.split_layers(values, lengths), values, lengths, targets
        if self.training:
            if self.reads == "features":
                values, lengths = augment_spectra(values, lengths, augment, front_end, generator)
            else:
                values, lengths = augment_waveforms(values, lengths, augment, generator)
            values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
        if self.reads == "waveforms":
            values, lengths = front_end(values, lengths)
        if self.training and front_end.kind != "waveform":
            values = spec_augment(values, lengths, augment, generator)
        assert isinstance(embedder, Network)
        return embedder.encoder(values, lengths), values, lengths, targets


class ClassifySettings(Settings):
    """How targets are made and weighed.

    Attributes:
        label_smoothing: share of a target that is spread evenly over the classes.
        vote_share: share of a target that raters' votes decide where there are any; the label has the rest.
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
    """Cross-entropy of a classifier's scores against target distributions, and a task on its embedding.

    A batch holds the column ``target (B, K)``, and ``speaker (B,)`` for a speaker task; ``class_weights`` are
    ``(K,)``, ones where None.
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
        named = {}
        if self.speaker_task is None:
            vectors, targets = self.embedded(batch, targets)
        else:
            views, targets = self.viewed(batch, targets)
            vectors, named["speaker"] = views.vectors, self.speaker_task(views)
        scores = self.classifier.scores(vectors)
        losses = -(targets * self.class_weights * F.log_softmax(scores.float(), dim=1)).sum(1)
        weights = (targets * self.class_weights).sum(1)
        return named | {"classification": mean_over_processes(losses.sum(), weights.sum())}


class Regress(Supervised):
    """One minus the concordance of a classifier's scores with standardised ratings, over the batch.

    A batch holds the column ``target (B, K)``; the output of the classifier is ``"values"``.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"concordance": loss}``: one minus its mean over dimensions, over all processes."""
        vectors, targets = self.embedded(batch, batch.columns["target"])
        scores = self.classifier.scores(vectors)
        return {"concordance": 1 - concordance(gathered(scores), gathered(targets)).mean()}


def concordance(predicted: Tensor, truth: Tensor) -> Tensor:
    """Returns the concordance of each column of ``predicted`` and ``truth``, both ``(B, K)``: ``(K,)``.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility". Columns that do not vary
    at all have none, and count as 0.
    """
    predicted, truth = predicted.float(), truth.float()
    gap = predicted.mean(0) - truth.mean(0)
    left, right = predicted - predicted.mean(0), truth - truth.mean(0)
    shared = (left * right).mean(0)
    return 2 * shared / ((left**2).mean(0) + (right**2).mean(0) + gap**2 + 1e-6)
