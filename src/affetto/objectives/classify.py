"""Emotion classification: cross-entropy against one label or a distribution of raters' votes."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier
from affetto.models.embedders import Network
from affetto.models.encoder import Frames
from affetto.objectives.objective import Objective, mean_over_processes


class ClassifySettings(Settings):
    """How targets are made and weighed.

    Attributes:
        label_smoothing: share of a target that is spread evenly over the classes.
        vote_share: share of a target that raters' votes decide where an utterance has any; the label has the
            rest.
        class_weights: whether rare classes weigh more, by the inverse of their frequency.
    """

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    vote_share: float = Field(0.0, ge=0, le=1)
    class_weights: bool = False


class Classify(Objective):
    """Cross-entropy of a classifier's scores against target distributions.

    A batch holds waveforms, or the cached frames of a frozen encoder, and the column ``target (B, K)``.

    Args:
        classifier: the network to train.
        settings: how targets are weighed; the distributions themselves come with the batch.
        augment: what is done to waveforms, features and cached frames in training.
        class_weights: a factor a class, ``(K,)``; None for ones.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ClassifySettings,
        augment: AugmentConfig,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.needs = {"target": "scan"}
        self.weights = {}
        self.classifier = classifier
        self.settings = settings
        self.augment = augment
        classes = len(classifier.settings.labels)
        self.register_buffer("class_weights", torch.ones(classes) if class_weights is None else class_weights)
        self.class_weights: Tensor

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"classification": loss}``, the weighted mean over the batch of all processes.

        Augmentation, masking and mixing happen in training mode only.
        """
        targets = batch.columns["target"]
        smoothing = self.settings.label_smoothing
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        scores, targets = self._scores(batch, targets)
        losses = -(targets * self.class_weights * F.log_softmax(scores.float(), dim=1)).sum(1)
        weights = (targets * self.class_weights).sum(1)
        return {"classification": mean_over_processes(losses.sum(), weights.sum())}

    def _scores(self, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(device="cpu")
        # Drawn from the global state, which checkpoints keep, so that a resumed run draws the same.
        generator.manual_seed(int(torch.randint(2**31, ()).item()))
        values, lengths = batch.values, batch.lengths
        network = self.classifier.embedder
        if values.ndim == 3:
            if not isinstance(network, Network):
                raise TypeError("cached frames need a network embedder")
            if self.training:
                values = spec_augment(values, lengths, self.augment, generator)
                values, lengths, targets = mixup(values, lengths, targets, self.augment.mixup, generator)
            layers = tuple(torch.split(values, list(network.encoder.layer_dims), dim=2))
            return self.classifier.scores(network.pool(Frames(layers[-1], lengths, layers))), targets
        if self.training:
            values, lengths = augment_waveforms(values, lengths, self.augment, generator)
            values, lengths, targets = mixup(values, lengths, targets, self.augment.mixup, generator)
        features, frames = self.classifier.front_end(values, lengths)
        if self.training and self.classifier.front_end.kind != "waveform":
            features = spec_augment(features, frames, self.augment, generator)
        return self.classifier(features, frames), targets
