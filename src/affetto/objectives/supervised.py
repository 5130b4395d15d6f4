"""What trains a recogniser on labels: cross-entropy of classes, concordance of dimensions."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.augment_features import augment_spectra
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Network
from affetto.models.encoder import Frames
from affetto.objectives.objective import Objective, Task, Views, gathered, mean_over_processes


class Supervised(Objective):
    """An objective on a classifier; in training, batches are augmented and mixed before they are embedded."""

    def __init__(self, classifier: EmotionClassifier, augment: AugmentConfig, reads: Reads) -> None:
        super().__init__()
        if not isinstance(classifier.embedder, Network) and reads != "vectors":
            raise TypeError("only networks are trained by gradient; this embedder gives fixed vectors")
        self.weights = {}
        self.classifier, self.augment, self.reads = classifier, augment, reads

    def viewed(self, batch: Batch, targets: Tensor) -> tuple[Views, Tensor]:
        """Returns one view of each utterance, and the targets ``(B, K)``, mixed as the utterances were."""
        augment = self.augment if self.training else AugmentConfig()
        values, lengths, front_end = batch.values, batch.lengths, self.classifier.front_end
        if self.reads == "frames":
            values = spec_augment(values, lengths, augment)
        elif self.reads == "features":
            values, lengths = augment_spectra(values, lengths, augment, front_end)
        elif self.reads == "waveforms":
            values, lengths = augment_waveforms(values, lengths, augment)
        values, lengths, targets = mixup(values, lengths, targets, augment.mixup)
        if self.reads == "waveforms":
            values, lengths = front_end(values, lengths)
        if self.reads in ("features", "waveforms") and front_end.kind != "waveform":
            values = spec_augment(values, lengths, augment)
        frames, vectors = self._encoded(values, lengths)
        return Views(vectors, frames, values, lengths, batch.index, batch.columns), targets

    def _encoded(self, values: Tensor, lengths: Tensor) -> tuple[Frames, Tensor]:
        if self.reads == "vectors":
            return Frames((values,), lengths), values[:, 0]
        embedder = self.classifier.embedder
        assert isinstance(embedder, Network)
        encode = self.classifier.split_layers if self.reads == "frames" else embedder.encoder
        frames: Frames = encode(values, lengths)
        return frames, embedder.pool(frames)


class ClassifySettings(Settings):
    """How targets are made and weighed, and the weight of a second task.

    That is ``"auxiliary"``, classifying the training speakers; ``"reversed"``, the same with the gradient
    reversed, so that the embedding hides them; or ``"none"``.
    """

    label_smoothing: float = Field(0.1, ge=0, lt=1)  # share of a target that is spread over the classes
    vote_share: float = Field(0.0, ge=0, le=1)  # share that raters' votes decide where there are any
    class_weights: bool = False  # whether rare classes weigh more, by the inverse of their frequency
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
        self.settings, self.speaker_task = settings, speaker_task
        equal = torch.ones(len(classifier.settings.labels))
        self.class_weights = nn.Buffer(equal if class_weights is None else class_weights)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"classification": loss}``, a weighted mean, and ``"speaker"`` with a speaker task."""
        targets = batch.columns["target"]
        smoothing = self.settings.label_smoothing
        views, targets = self.viewed(batch, targets * (1 - smoothing) + smoothing / targets.shape[1])
        losses = {} if self.speaker_task is None else {"speaker": self.speaker_task(views)}
        shares = F.log_softmax(self.classifier.scores(views.vectors).float(), dim=1)
        weighted = targets * self.class_weights
        total, weight = -(weighted * shares).sum(1).sum(), weighted.sum(1).sum()
        return losses | {"classification": mean_over_processes(total, weight)}


class Regress(Supervised):
    """One minus the concordance of a classifier's scores with standardised ratings, over the batch.

    A batch holds the column ``target (B, K)``; the output of the classifier is ``"values"``.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"concordance": loss}``: one minus its mean over dimensions, over all processes."""
        views, targets = self.viewed(batch, batch.columns["target"])
        scores = self.classifier.scores(views.vectors)
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
