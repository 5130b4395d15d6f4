"""What language-audio training asks of a corpus: genders, sentences, and what is left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from affetto.errors import ConfigError, ManifestError, unknown
from affetto.material.labelled import Material
from affetto.models.classifier import EmotionClassifier
from affetto.models.language import LanguageHead, LanguageSettings
from affetto.models.text import TextEncoder, TextSettings, averaged, worded
from affetto.objectives.clap import ClapSettings

Words = Literal["own", "shuffled", "random"]


class LanguageTraining(ClapSettings):
    """How a recogniser with a language head is trained.

    Attributes:
        control: ``"classes"`` trains learned class vectors with cross-entropy instead: the same network
            without language.
        genders: ``"shuffled"`` gives every speaker the gender of another, drawn anew for each seed.
        words: ``"shuffled"`` calls every class by the name of another; ``"random"`` gives each text a vector
            of chance. What can still be told of an emotion that was left out is told by no word.
        left_out: emotions of which no utterance is trained on, nor looked at to choose an epoch.
    """

    control: Literal["none", "classes"] = "none"
    genders: Literal["own", "shuffled"] = "own"
    words: Words = "own"
    left_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "LanguageTraining":
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        given = [name for name in usual if name != "control" and getattr(self, name) != usual[name]]
        if self.control == "classes" and given:
            raise ValueError(f"learned class vectors look at nothing of: {', '.join(given)}; leave it out")
        if "alpha" in given and not self.needs_gender:
            raise ValueError(f"alpha weighs gender, which the target {self.target!r} does not look at")
        if self.genders != "own" and not self.needs_gender:
            raise ValueError(f"genders are not looked at by the target {self.target!r}; leave them out")
        return self


class Sentences(NamedTuple):
    """What is said of utterances.

    Attributes:
        columns: for the batches: ``text (N, M)`` and, where every speaker has one, ``gender (N, G)``.
        sets: the sentences of each of the ``M`` texts.
        classes: the sentences of each class alone, ``K`` sets.
    """

    columns: dict[str, Tensor]
    sets: list[list[str]]
    classes: list[list[str]]


def without(rows: NDArray[np.int64], material: Material, left_out: Sequence[str]) -> NDArray[np.int64]:
    """Returns the rows whose emotion is not left out.

    Raises:
        ConfigError: for an emotion that the protocol does not have, and when fewer than two are left.
    """
    for label in left_out:
        if label not in material.labels:
            raise ConfigError(unknown("emotion", label, material.labels))
    if len(material.labels) - len(set(left_out)) < 2:
        raise ConfigError(f"got clap.left_out={list(left_out)}; at least two emotions must be left to learn")
    return rows[~np.isin(material.truth[rows], [material.labels.index(label) for label in left_out])]


def sentences(
    material: Material, text: TextSettings, settings: LanguageTraining, rows: NDArray[np.int64], seed: int
) -> Sentences:
    """Words every utterance.

    Args:
        material: the utterances.
        text: its templates.
        settings: whether gender takes part.
        rows: those that are trained on; of them, gender must be known where it takes part.
        seed: of what is shuffled.

    Raises:
        ManifestError: names rows without a gender, where the target needs it.
    """
    genders = _genders(material, settings, rows, seed)
    if settings.needs_gender and (missing := [row for row in rows.tolist() if not genders[row]]):
        keys = [str(material.manifest.table["key"].iloc[row]) for row in missing]
        raise ManifestError(
            f"{len(missing)} of {len(rows)} rows have no gender, which the target {settings.target!r} needs: "
            f"{', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}; fill the column gender, drop them, or "
            "use clap.target=emo"
        )
    table = material.manifest.table
    levels = [
        str(level) if isinstance(level, str) else ""
        for level in table.get("intensity_level", [None] * len(genders))
    ]
    said: list[tuple[str, ...]] = [
        tuple(worded(each, material.labels[truth], gender, level) for each in text.templates)
        for truth, gender, level in zip(material.truth.tolist(), genders, levels, strict=True)
    ]
    unique = sorted(set(said))
    number = {texts: place for place, texts in enumerate(unique)}
    columns = {"text": _one_hot([number[texts] for texts in said], len(unique))}
    known = sorted({genders[row] for row in rows.tolist() if genders[row]})
    if settings.needs_gender:
        columns["gender"] = _one_hot(
            [known.index(each) if each in known else 0 for each in genders], len(known)
        )
    # A class alone is what it is called with every gender that was heard, since that is what was learned.
    wordings = [
        (each, gender)
        for each in text.templates
        for gender in (known or [""] if "{gender}" in each else [""])
    ]
    classes = [[worded(each, label, gender) for each, gender in wordings] for label in material.labels]
    said_of_class = {tuple(texts) for texts in classes}
    if settings.words != "own" and not set(unique) <= said_of_class:
        raise ConfigError(
            f"clap.words={settings.words} goes with templates that say the emotion alone; "
            "leave out {gender} and {intensity}"
        )
    return Sentences(columns, [list(texts) for texts in unique], classes)


def spoken(language: LanguageSettings, said: Sentences) -> LanguageSettings:
    """Returns the shape of a head that knows what its classes are called, and where to find who reads it."""
    assert language.text is not None
    folder = Path(language.text.model)
    model = str(folder.resolve()) if folder.is_dir() else language.text.model
    text = language.text.model_copy(update={"model": model})
    return language.model_copy(update={"text": text, "sentences": tuple(map(tuple, said.classes))})


@torch.no_grad()
def text_vectors(
    encoder: TextEncoder, said: Sentences, settings: LanguageTraining, seed: int
) -> tuple[Tensor, Tensor]:
    """Reads all sentences once: vectors of the texts ``(M, E)`` and of the classes ``(K, E)``.

    With ``words`` shuffled or random both are what that control asks for, the same for a class and for the
    texts that say that class and nothing else.
    """
    sets = [*said.sets, *said.classes]
    if settings.words == "shuffled":
        sets = _shuffled(sets, said.classes, seed)
    found = averaged(encoder.eval(), sets)
    if settings.words == "random":
        generator = torch.Generator().manual_seed(seed)
        drawn = F.normalize(torch.randn(len(sets), found.shape[1], generator=generator), dim=1)
        first = {tuple(texts): place for place, texts in reversed(list(enumerate(sets)))}
        found = drawn[[first[tuple(texts)] for texts in sets]]
    return found[: len(said.sets)], found[len(said.sets) :]


def read_sentences(
    head: LanguageHead, said: Sentences, settings: LanguageTraining, seed: int
) -> Tensor | list[list[str]]:
    """Returns the vectors of all texts ``(M, E)`` and writes those of the classes into the head.

    Where the text encoder learns too, it is filled with its published weights, and the texts stay texts.
    """
    if head.encoder is not None:
        head.encoder.load_published()
        return said.sets
    assert head.settings.text is not None
    texts, names = text_vectors(TextEncoder(head.settings.text).load_published(), said, settings, seed)
    head.names.copy_(names)
    return texts


def keep_names(classifier: EmotionClassifier, said: Sentences | None) -> None:
    """Writes what a trained text encoder calls the classes into the head; nothing to do for other heads."""
    if said is not None and (encoder := classifier.language.encoder) is not None:
        with torch.no_grad():
            classifier.language.names.copy_(averaged(encoder.eval(), said.classes))


def _shuffled(sets: list[list[str]], classes: list[list[str]], seed: int) -> list[list[str]]:
    """Puts another class's sentences in the place of each; nothing else may be said in them."""
    order = np.random.default_rng([seed, 23]).permutation(len(classes))
    other = {
        tuple(classes[place]): classes[following]
        for place, following in zip(order, np.roll(order, 1), strict=True)
    }
    return [other[tuple(texts)] for texts in sets]


def _genders(material: Material, settings: LanguageTraining, rows: NDArray[np.int64], seed: int) -> list[str]:
    table = material.manifest.table
    given = table["gender"].tolist() if "gender" in table else [None] * len(table)
    genders = [each if isinstance(each, str) else "" for each in given]
    if settings.genders == "own":
        return genders
    # Among those that are trained on: nobody else's gender is looked at.
    names, first = np.unique(material.speakers[rows], return_index=True)
    drawn = np.random.default_rng([seed, 19]).permutation(len(names))
    own = [genders[row] for row in rows[first].tolist()]
    whose = {name: own[other] for name, other in zip(names.tolist(), drawn.tolist(), strict=True)}
    return [whose.get(name, gender) for name, gender in zip(material.speakers.tolist(), genders, strict=True)]


def _one_hot(numbers: list[int], count: int) -> Tensor:
    return F.one_hot(torch.tensor(numbers), count).float()
