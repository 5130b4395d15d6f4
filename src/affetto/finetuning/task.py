"""The fitting of one fold with one seed: what it needs and gives, logistic heads, and the model card."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from affetto._version import __version__
from affetto.finetuning.classical import balanced_loss, fit_logistic
from affetto.finetuning.settings import FinetuneSettings
from affetto.material.recordings import Material
from affetto.models.classifier import ELSEWHERE, ClassifierSettings, EmotionClassifier
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


def model_card(config: dict[str, Any]) -> str:
    """Returns the README of a recogniser folder, from its ``config.json``."""
    labels = ", ".join(config["labels"])
    dependent = "\n**speaker-dependent**: trained on speakers that it was also tested on.\n"
    origin = "Trained from scratch."
    if config["weights_from_elsewhere"]:
        origin = "The encoder's weights come from elsewhere; which speakers they saw is unknown."
    kind, score = "Classes", f"UAR on its dev speakers {100 * config.get('dev_uar', 0):.1f} %"
    if "dev_ccc" in config:
        kind, score = "Dimensions", f"concordance (CCC) on its dev speakers {config['dev_ccc']:.2f}"
    elsewhere = "".join(
        f"- The weights of `{part}` are not in `model.safetensors`; SHA-256 `{sha256}`\n"
        for part, sha256 in config.get(ELSEWHERE, {}).items()
    )
    withheld = "".join(
        f"\n| {share} | {row['confidence']:.2f} | {100 * row['accuracy']:.1f} % |"
        for share, row in config.get("withholding", {}).items()
    )
    if withheld:
        head = "\n| withheld on dev | confidence under | right of the others |\n|---:|---:|---:|"
        withheld = f"{head}{withheld}\n\nTo withhold them: `affetto predict --withhold 20%`.\n"
    return f"""---
library_name: affetto
pipeline_tag: audio-classification
tags: [speech-emotion-recognition]
---

# Speech emotion recogniser ({config["encoder"]})
{dependent if config["speaker_dependent"] else ""}
- {kind}: {labels}
- Protocol: `{config["protocol"]}`; {score}, by which it was chosen;
  others will score lower, as the report of `affetto evaluate` says
- Speakers trained on with labels: {len(config["speakers_seen"]["with_labels"])} (listed in `config.json`)
- {origin}
- Manifest hash: `{config["manifest_sha256"]}`
{elsewhere}- Made by affetto {__version__}
{withheld}
```python
from affetto import Recogniser

recogniser = Recogniser.from_pretrained("PATH/OF/THIS/FOLDER")
print(recogniser.predict("recording.wav"))
```

It says what acted or spoken speech sounds like, in the words or numbers of its corpus. It does not say
what a person feels, and is unproved on languages, microphones, ages and manners of speech that its
corpus lacks.

## What it is not for

- Deciding anything about a person.
- Inferring emotions at work or in education, which Article 5(1)(f) of the EU's AI Act (Regulation
  2024/1689) bans except for medical or safety reasons. Other uses have duties under the same act.
"""
