"""The fitting of one fold with one seed: what it needs, what it gives, and heads by logistic regression."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from affetto.finetuning.classical import balanced_loss, fit_logistic
from affetto.finetuning.settings import FinetuneSettings
from affetto.material.labelled import Material
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import Network, NetworkSettings, Statistics, StatisticsSettings
from affetto.models.heads import LinearHead, Standardise
from affetto.runs import RunFolder

Rows = NDArray[np.int64]
Speakers = dict[str, list[str]]  # of a pretrained encoder, with_labels and without_labels


class FoldTask(NamedTuple):
    """What fitting one fold with one seed needs; ``run`` is for checkpoints."""

    material: Material
    fold: int
    train: Rows
    dev: Rows
    settings: FinetuneSettings
    seed: int
    run: RunFolder
    accelerator: Accelerator
    enrolment: bool = False
    unlabelled: Rows = np.zeros(0, np.int64)  # of training speakers, whose offsets rest on these too

    @property
    def of_training(self) -> Rows:
        """All rows of training speakers, those that are learned from first."""
        return np.concatenate([self.train, self.unlabelled])


class Fitted(NamedTuple):
    """A fitted fold: network, vectors ``(N, D)``, dev's choices, and the speakers of a pretrained encoder."""

    classifier: EmotionClassifier
    vectors: Tensor
    choices: dict[str, Any]
    pretrained_on: Speakers


def class_weights(task: FoldTask) -> Tensor:
    """Returns the weight of each class by the inverse of its frequency in training, ``(K,)``."""
    counts = np.bincount(task.material.truth[task.train], minlength=len(task.material.labels))
    return torch.from_numpy(len(task.train) / (len(counts) * np.maximum(counts, 1))).float()


def classifier_shape(task: FoldTask, **changed: Any) -> ClassifierSettings:
    """Returns the shape of the recogniser that a task asks for, with what is ``changed`` of it."""
    return ClassifierSettings(
        embedder=task.settings.embedder,
        labels=tuple(task.material.labels),
        output="classes" if task.material.values is None else "values",
        enrolment=task.enrolment,
        **changed,
    )


@torch.no_grad()
def refit_head(fitted: Fitted, task: FoldTask) -> Fitted:
    """Fits logistic regression to the vectors of a trained network, and keeps the better head on dev.

    That is the one with the lower :func:`~affetto.finetuning.classical.balanced_loss`, by which the strength
    is chosen too: it does not depend on how sure of itself a head is, and is steadier than a count.
    """
    classifier, material, dev = fitted.classifier, task.material, task.dev
    assert isinstance(classifier.head, LinearHead)
    targets = material.targets(task.settings.loss.vote_share)[dev]
    values = fitted.vectors[:, : classifier.embedder.dim]
    standard = Standardise(values.shape[1]).fit(values[torch.from_numpy(task.train)])
    # Standardised without its limits, so that one linear layer on the vectors does the same.
    scaled = (values - standard.mean) / standard.deviation
    head, found = logistic_head(scaled, task)
    trained, refitted = (
        balanced_loss(scores, targets) for scores in (classifier.scores(values[dev]), head(scaled[dev]))
    )
    fitted.choices["head"] = "refitted" if refitted < trained else "trained"
    if refitted < trained:
        fitted.choices.update(found)
        weight = head.linear.weight / standard.deviation
        classifier.head.assign(weight, head.linear.bias - weight @ standard.mean)
    return fitted


@torch.no_grad()
def of_statistics(fitted: Fitted, task: FoldTask) -> Fitted:
    """Returns the trained encoder with logistic regression on the statistics of all its layers.

    Or returns what is given, where that is better on dev. The vectors given hold these statistics last.
    """
    trained, settings, dev = fitted.classifier, task.settings, task.dev
    assert isinstance(settings.embedder, NetworkSettings)
    embedder = StatisticsSettings(encoder=settings.embedder.encoder)
    own = task._replace(settings=settings.model_copy(update={"embedder": embedder}))
    classifier = EmotionClassifier(classifier_shape(own, standardise=True, dropout=0.0)).eval()
    assert isinstance(trained.embedder, Network)
    assert isinstance(classifier.embedder, Statistics)
    assert isinstance(classifier.standardise, Standardise)
    classifier.embedder.encoder.load_state_dict(trained.embedder.encoder.state_dict())
    vectors = fitted.vectors[:, trained.embedder.dim :]
    standard = classifier.standardise.fit(vectors[torch.from_numpy(task.train)])
    head, found = logistic_head(standard(vectors), task)
    classifier.head.load_state_dict(head.state_dict())
    targets = task.material.targets(settings.loss.vote_share)[dev]
    before = balanced_loss(trained.scores(fitted.vectors[dev]), targets)
    if before <= balanced_loss(classifier.scores(vectors[dev]), targets):
        return fitted
    choices = fitted.choices | found | {"head": "statistics"}
    return Fitted(classifier, vectors, choices, fitted.pretrained_on)


def logistic_head(
    values: Tensor, task: FoldTask, blocks: Sequence[Tensor] = ()
) -> tuple[LinearHead, dict[str, Any]]:
    """Fits logistic regression to standardised vectors ``(N, D)``; dev chooses its strength."""
    targets = task.material.targets(task.settings.loss.vote_share)
    weights = class_weights(task) if task.settings.loss.class_weights else None
    return fit_logistic(values, targets, task.train, task.dev, weights, blocks)
