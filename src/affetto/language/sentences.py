"""The sentences of utterances and of classes: templates, filled with emotion, gender and intensity."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affetto.errors import ConfigError, ManifestError, unknown
from affetto.language.clap import ClapSettings
from affetto.material.labelled import Material

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
