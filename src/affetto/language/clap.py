"""Contrastive language-audio learning with the relations of emotion, and of gender, between utterances.

Pan et al. (2024), "GEmo-CLAP: Gender-attribute-enhanced contrastive language-audio pretraining", equations 4
to 7. No code was published. This follows a second-hand account, in which the target is the softmax of a
matrix of zeros and ones, and so nearly flat: with 32 utterances of four classes the positives of a row have
less than half of its mass. The sentences of utterances and of classes are templates, filled with emotion,
gender and intensity.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from affetto.augment import AugmentConfig
from affetto.config import Settings
from affetto.data import Batch
from affetto.errors import ConfigError, ManifestError, unknown
from affetto.language.text import TextEncoder, mean_vectors
from affetto.material.recordings import Material
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.heads import LanguageHead
from affetto.objectives.objective import gathered, mean_loss, own_rows
from affetto.objectives.supervised import Supervised

Target = Literal["emo", "ml", "sl", "hard"]


class ClapSettings(Settings):
    """Which utterances and texts of a batch belong together.

    The target is ``"emo"``, the softmax of whose emotion is the same (Emo-CLAP, equation 4); ``"ml"``, the
    loss of that and of the same for gender, weighted (ML-GEmo-CLAP, equation 6); ``"sl"``, that of both
    relations, weighted (SL-GEmo-CLAP, equation 7); or ``"hard"``, equal shares for the same emotion.
    """

    target: Target = "emo"
    alpha: float = Field(0.9, ge=0, le=1)  # share of emotion in ml and sl; gender has the rest
    gender: str = "gender"  # column of the manifest
    words: dict[str, str] = Field(default_factory=dict)  # for classes, where those of FEELINGS do not fit

    @property
    def needs_gender(self) -> bool:
        """Whether gender takes part."""
        return self.target in ("ml", "sl")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.alpha != 0.9 and not self.needs_gender:
            raise ValueError(f"alpha weighs gender, which the target {self.target!r} does not look at")
        if self.gender != "gender" and not self.needs_gender:
            raise ValueError(f"genders are not looked at by the target {self.target!r}; leave them out")
        return self


class Clap(Supervised):
    """Draws each utterance to its text and each text to its utterances.

    A batch holds the columns ``target (B, K)``, ``gender (B, G)`` and ``text (B, N)``, each with a one where
    it belongs; where utterances are mixed, so are they.

    ``texts`` are vectors ``(N, E)``; or, where the text encoder learns too, a set of sentences for each.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ClapSettings,
        augment: AugmentConfig,
        texts: Tensor | Sequence[Sequence[str]],
        reads: Reads = "waveforms",
        encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__(classifier, augment, reads)
        self.needs = ["target", "text", *(["gender"] if settings.needs_gender else [])]
        self.settings, self.encoder = settings, encoder
        self.sets = None if isinstance(texts, Tensor) else texts
        self.register_buffer("texts", texts if isinstance(texts, Tensor) else None, persistent=False)
        self.texts: Tensor | None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"clap": loss}``, the mean over the items of all processes."""
        widths = [batch.columns[name].shape[1] for name in self.needs]
        views, mixed = self.viewed(batch, torch.cat([batch.columns[name] for name in self.needs], 1))
        columns = dict(zip(self.needs, torch.split(mixed, widths, dim=1), strict=True))
        head = self.classifier.head
        assert isinstance(head, LanguageHead)
        audio = head.project_audio(self.classifier.standardise(views.vectors)).float()
        texts = head.project_texts(columns["text"] @ self._texts(columns["text"])).float()
        # Targets differ by a tenth; half precision, which a GPU may choose by itself, would blur them.
        with torch.autocast(audio.device.type, enabled=False):
            own = own_rows(audio)
            everyone = [gathered(columns[name].float()) for name in self.needs if name != "text"]
            losses = clap_losses(
                head.scales[0].float() * audio @ gathered(texts).T,
                head.scales[1].float() * texts @ gathered(audio).T,
                clap_targets(self.settings, *(relation[own] @ relation.T for relation in everyone)),
            )
            return {"clap": mean_loss(losses)}

    def _texts(self, used: Tensor) -> Tensor:
        """Returns the vectors of all texts, ``(N, E)``; zero for one that is not in the batch."""
        if self.texts is not None:
            return self.texts
        assert self.sets is not None
        assert self.encoder is not None
        places = used.any(0).nonzero().flatten()
        found = mean_vectors(self.encoder, [self.sets[place] for place in places.tolist()])
        return found.new_zeros(used.shape[1], found.shape[1]).index_copy(0, places, found)


def clap_targets(
    settings: ClapSettings, emotion: Tensor, gender: Tensor | None = None
) -> list[tuple[float, Tensor]]:
    """Returns the target of each row, ``(B, N)`` that sum to 1, with weights.

    ``emotion (B, N)`` is 1 where two items have the same emotion, else 0, or between for mixed ones.
    """
    if settings.target == "hard":
        return [(1.0, emotion / emotion.sum(1, keepdim=True))]
    if settings.target == "emo":
        return [(1.0, emotion.softmax(1))]
    if gender is None:
        raise ValueError(f"the target {settings.target!r} needs the relations of gender")
    alpha = settings.alpha
    if settings.target == "ml":
        return [(alpha, emotion.softmax(1)), (1 - alpha, gender.softmax(1))]
    return [(1.0, (alpha * emotion + (1 - alpha) * gender).softmax(1))]


def clap_losses(to_texts: Tensor, to_audio: Tensor, targets: list[tuple[float, Tensor]]) -> Tensor:
    """Returns the loss of each item, ``(B,)``: half the divergence from its target, in both directions.

    ``to_texts`` and ``to_audio (B, N)`` are cosines over their temperatures. A text has the target of its
    utterance.
    """
    losses = to_texts.new_zeros(len(to_texts))
    for logits in (to_texts, to_audio):
        shares = logits.log_softmax(1)
        for weight, target in targets:
            losses = losses + weight / 2 * F.kl_div(shares, target, reduction="none").sum(1)
    return losses


# fmt: off
FEELINGS = {
    "amusement": "amused", "anger": "angry", "anxiety": "anxious", "boredom": "bored",
    "contempt": "contemptuous", "disgust": "disgusted", "excitement": "excited", "fear": "afraid",
    "frustration": "frustrated", "happiness": "happy", "pleasant_surprise": "pleasantly surprised",
    "relief": "relieved", "sadness": "sad", "sarcasm": "sarcastic", "sleepiness": "sleepy",
    "surprise": "surprised",
}
# fmt: on
"""The word for a class: "sounds angry", not "sounds anger"; other classes stand for themselves."""


class Sentences(NamedTuple):
    """The sentences of each of ``M`` texts and of each class, and one-hot columns for the batches.

    The columns are ``text (N, M)`` and, where it is needed, ``gender (N, G)``.
    """

    columns: dict[str, Tensor]
    sets: list[list[str]]
    classes: list[list[str]]


def worded(
    template: str, emotion: str, gender: str = "", intensity: str = "", words: Mapping[str, str] | None = None
) -> str:
    """Returns a template such as ``"a {gender} speaker sounds {emotion}"`` with its braces filled.

    What is not known leaves no gap. ``words`` are words for classes in place of :data:`FEELINGS`.
    """
    word = {**FEELINGS, **(words or {})}.get(emotion, emotion)
    return " ".join(template.format(emotion=word, gender=gender, intensity=intensity).split())


def sentences(
    material: Material, templates: Sequence[str], settings: ClapSettings, rows: NDArray[np.int64]
) -> Sentences:
    """Makes the sentences of every utterance and every class; ``rows`` are those that are trained on."""
    for label in settings.words:
        if label not in material.labels:
            raise ConfigError(unknown("emotion", label, material.labels))
    genders, levels = _texts(material, settings.gender), _texts(material, "intensity_level")
    if settings.needs_gender and (missing := [row for row in rows.tolist() if not genders[row]]):
        keys = [str(material.manifest.table["key"].iloc[row]) for row in missing]
        raise ManifestError(
            f"{len(missing)} of {len(rows)} rows have no gender, which the target {settings.target!r} needs: "
            f"{', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}; fill the column {settings.gender}, "
            "drop them, or use clap.target=emo"
        )
    texts_of = [
        tuple(worded(each, material.labels[truth], gender, level, settings.words) for each in templates)
        for truth, gender, level in zip(material.truth.tolist(), genders, levels, strict=True)
    ]
    places, unique = pd.factorize(pd.Series(texts_of), sort=True)
    columns = {"text": _one_hot(places.tolist(), len(unique))}
    known = sorted({genders[row] for row in rows.tolist() if genders[row]})
    if settings.needs_gender:
        numbers = [known.index(each) if each in known else 0 for each in genders]
        columns["gender"] = _one_hot(numbers, len(known))
    # The sentences of a class have every gender of the training part, since those were learned.
    wordings = [
        (each, gender) for each in templates for gender in (known or [""] if "{gender}" in each else [""])
    ]
    classes = [
        [worded(each, label, gender, words=settings.words) for each, gender in wordings]
        for label in material.labels
    ]
    return Sentences(columns, [list(texts) for texts in unique], classes)


def _texts(material: Material, column: str) -> list[str]:
    table = material.manifest.table
    given = table[column].tolist() if column in table else [None] * len(table)
    return [each if isinstance(each, str) else "" for each in given]


def _one_hot(numbers: list[int], count: int) -> Tensor:
    return F.one_hot(torch.tensor(numbers), count).float()
