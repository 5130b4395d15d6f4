"""Emotion classification: cross-entropy against one label or a distribution of raters' votes."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.config import Settings
from affetto.data import Batch
from affetto.data.spectra import augment_spectra
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Network
from affetto.models.encoder import Frames
from affetto.objectives.objective import Objective, Task, Views, mean_over_processes


class ClassifySettings(Settings):
    """How targets are made and weighed.

    Attributes:
        label_smoothing: share of a target that is spread evenly over the classes.
        vote_share: share of a target that raters' votes decide where an utterance has any; the label has the
            rest.
        class_weights: whether rare classes weigh more, by the inverse of their frequency.
        speaker: a second task: ``"auxiliary"``, telling the training speakers apart; ``"reversed"``, the same
            with the gradient reversed, so that the embedding hides them; or ``"none"``.
        speaker_weight: its weight.
    """

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    vote_share: float = Field(0.0, ge=0, le=1)
    class_weights: bool = False
    speaker: Literal["none", "auxiliary", "reversed"] = "none"
    speaker_weight: float = Field(0.1, ge=0)


class Classify(Objective):
    """Cross-entropy of a classifier's scores against target distributions.

    A batch holds the column ``target (B, K)``.

    Args:
        classifier: the network to train.
        settings: how targets are weighed; the distributions themselves come with the batch.
        augment: what is done to waveforms, features and cached frames in training.
        class_weights: a factor a class, ``(K,)``; None for ones.
        reads: what the batches hold.
        speaker_task: a second task on the classifier's embedding, beside or against the first; weighed by
            ``settings.speaker_weight``.
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
        super().__init__()
        self.needs = {"target": "scan", **(speaker_task.needs if speaker_task else {})}
        self.weights = {"speaker": settings.speaker_weight}
        self.classifier = classifier
        self.settings = settings
        self.augment, self.reads = augment, reads
        self.speaker_task = speaker_task
        classes = len(classifier.settings.labels)
        self.register_buffer("class_weights", torch.ones(classes) if class_weights is None else class_weights)
        self.class_weights: Tensor

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"classification": loss}``, the weighted mean over the batch of all processes.

        With a speaker task there is ``"speaker"`` beside it. Augmentation, masking and mixing happen in
        training mode only.
        """
        targets = batch.columns["target"]
        smoothing = self.settings.label_smoothing
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        embedder = self.classifier.embedder
        if not isinstance(embedder, Network):
            raise TypeError("only networks are trained by gradient; this embedder gives fixed vectors")
        frames, features, lengths, targets = self._frames(batch, targets)
        vectors = embedder.pool(frames)
        scores = self.classifier.scores(vectors)
        losses = -(targets * self.class_weights * F.log_softmax(scores.float(), dim=1)).sum(1)
        weights = (targets * self.class_weights).sum(1)
        named = {"classification": mean_over_processes(losses.sum(), weights.sum())}
        if self.speaker_task is not None:
            views = Views(vectors, frames, features, lengths, batch.index, batch.columns)
            named["speaker"] = self.speaker_task(views)
        return named

    def _frames(self, batch: Batch, targets: Tensor) -> tuple[Frames, Tensor, Tensor, Tensor]:
        """Augments and encodes; returns frames, what the encoder read, its lengths, and the targets."""
        generator = torch.Generator(device="cpu")
        # Drawn from the global state, which checkpoints keep, so that a resumed run draws the same.
        generator.manual_seed(int(torch.randint(2**31, ()).item()))
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
