"""The outputs of a network for pieces, as rows of a table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow  # type: ignore[import-untyped]
from numpy.typing import NDArray

from affetto.errors import ConfigError, unknown
from affetto.inference.enrolment import Enrolments, enrolment_of
from affetto.inference.pipeline import Computed
from affetto.inference.sources import Piece
from affetto.inference.writers import NUMBER, TEXT, WHOLE
from affetto.tables import Row

UNKNOWN, NO_SPEECH, UNSURE = "unknown", "no speech", "low confidence"
"""The label of an answer that is withheld, and why it is."""


class Score(TypedDict):
    """One class and its probability, as a Hugging Face pipeline has it; or a dimension and its value."""

    label: str
    score: float


class RowFormat(NamedTuple):
    """How a table holds predictions of ``labels``: classes with probabilities, or dimensions with values."""

    labels: list[str]
    values: bool

    @property
    def predictions(self) -> list[str]:
        """Columns of the probabilities or values."""
        return self.labels if self.values else [f"p_{label}" for label in self.labels]

    def types(self, enrolled: bool, speakers: bool = False) -> dict[str, Any]:
        """Returns the columns of a table with their types; ``speakers`` is whether it shows them."""
        types = {"file": TEXT, "start": NUMBER, "end": NUMBER}
        types |= {"speaker": TEXT} if speakers else {}
        types |= {} if self.values else {"label": TEXT, "confidence": NUMBER}
        types |= {**dict.fromkeys(self.predictions, NUMBER), "withheld": TEXT, "warning": TEXT, "error": TEXT}
        return types | {"enrolment": WHOLE, "enrolled": pyarrow.bool_()} if enrolled else types

    def scores(self, row: Row) -> list[Score]:
        """Returns every class with its probability, the likeliest first; or the dimensions in their order.

        Without speech the only score is that of ``unknown``.
        """
        if row["withheld"] == NO_SPEECH:
            return [{"label": UNKNOWN, "score": 1.0}]
        pairs = zip(self.labels, self.predictions, strict=True)
        scores: list[Score] = [{"label": label, "score": row[name]} for label, name in pairs]
        return scores if self.values else sorted(scores, key=lambda score: -score["score"])


class Terms(NamedTuple):
    """Which classes of a recogniser may be answered, how they are weighed, and how sure it must be."""

    places: list[int]  # of the classes among those of the recogniser
    weights: list[float]  # of their probabilities: the prior, relative to all classes being as frequent
    least: float = 0.0  # confidence under which an answer is withheld

    def applied(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """Returns the probabilities of the classes, ``(K,)`` to ``(C,)``, with a sum of 1."""
        if len(self.places) == len(probabilities) and set(self.weights) == {1.0}:
            return probabilities
        own = probabilities[self.places].astype(np.float64) * self.weights
        return np.asarray(own / own.sum())


def all_terms(form: RowFormat) -> Terms:
    """Returns the terms under which every class may be answered, and none is withheld."""
    return Terms(list(range(len(form.labels))), [1.0] * len(form.labels))


def chosen_terms(
    form: RowFormat,
    classes: Iterable[str] | None,
    prior: Mapping[str, float] | None,
    withhold: float | str | None,
    known: Mapping[str, Any],
) -> Terms:
    """Checks what is asked; ``form`` is of all classes, ``known`` are the shares of dev it can withhold."""
    asked = {"classes": classes, "a prior": prior, "withhold": withhold}
    if form.values and (given := [name for name, value in asked.items() if value is not None]):
        raise ConfigError(f"a recogniser of dimensions has no classes; leave {' and '.join(given)} out")
    labels = _subset(form.labels, classes)
    weights = [len(labels) * share for share in _shares(labels, prior)] if prior else [1.0] * len(labels)
    if withhold in known and (classes is not None or prior):
        raise ConfigError(
            f"{withhold} of dev were withheld among all classes and without a prior; name a confidence "
            "instead, e.g. 0.4"
        )
    least = _least_confidence(withhold, known)
    return Terms([form.labels.index(label) for label in labels], weights, least)


def _subset(labels: list[str], classes: Iterable[str] | None) -> list[str]:
    wanted = labels if classes is None else list(classes)
    for name in wanted:
        if name not in labels:
            raise ConfigError(unknown("class", name, labels))
    if len(set(wanted)) < 2:
        raise ConfigError(f"got the classes {', '.join(wanted) or '(none)'}; at least two are needed")
    return [label for label in labels if label in wanted]


def _shares(labels: list[str], prior: Mapping[str, float]) -> list[float]:
    """Returns the share of each class; classes that are not named have equal shares of what is left."""
    for name, share in prior.items():
        if name not in labels:
            raise ConfigError(unknown("class of a prior", name, labels))
        if not 0 < share < 1:
            raise ConfigError(f"got a prior of {share:g} for {name}; it must be above 0 and below 1")
    rest, total = len(labels) - len(prior), sum(prior.values())
    if (rest and not total < 1) or (not rest and abs(total - 1) > 0.01):
        needed = "less than 1, so that the other classes have a share" if rest else "1"
        raise ConfigError(f"the prior adds up to {total:g}; it must be {needed}")
    return [prior[name] / (1 if rest else total) if name in prior else (1 - total) / rest for name in labels]


def _least_confidence(withhold: float | str | None, known: Mapping[str, Any]) -> float:
    """Returns the confidence under which answers are withheld, of a number or a share that dev knows."""
    if withhold is None:
        return 0.0
    try:
        least = float(known[str(withhold)]["confidence"] if withhold in known else withhold)
    except ValueError as error:
        raise ConfigError(unknown("share to withhold", withhold, [*known, "a confidence"])) from error
    if not 0 <= least <= 1:
        raise ConfigError(f"got a least confidence of {withhold}; it must be 0 to 1, or a share as 20%")
    return least


def rows_of(
    computed: Iterable[Computed], form: RowFormat, terms: Terms, enrolment: Enrolments | None, speakers: bool
) -> Iterator[tuple[Piece, Row]]:
    """Yields a row for each piece, whose probabilities or values are ``(K,)``, NaN without speech.

    ``form`` is of the classes that are answered, ``K`` of all classes.
    """
    names = list(form.types(enrolment is not None, speakers))
    for piece, predicted in computed:
        clip = piece.clip
        row: Row = dict.fromkeys(names)
        if predicted is None:
            row.update(file=clip.file, start=clip.start, end=clip.end, error=piece.fault or None)
        else:
            row.update(file=clip.file, start=piece.start, end=piece.end)
            if np.isnan(predicted).any():
                row.update(withheld=NO_SPEECH)
            else:
                own = terms.applied(predicted).astype(np.float64).tolist()
                row.update(zip(form.predictions, own, strict=True))
            if not form.values:
                row.update(_answer(row, form, terms.least))
        if enrolment is not None:
            enrolled = enrolment_of(enrolment, clip)
            row.update(enrolment=enrolled.utterances if enrolled else 0, enrolled=clip.enrolled)
        if speakers:
            row.update(speaker=clip.voice)
        row.update(warning=clip.warning)
        yield piece, row


def _answer(row: Row, form: RowFormat, least: float) -> Row:
    """Returns the columns that hold the answer, or say why there is none."""
    if row["withheld"]:
        return {"label": UNKNOWN}
    best = max(form.labels, key=lambda label: row[f"p_{label}"])
    confidence = row[f"p_{best}"]
    if confidence < least:
        return {"label": UNKNOWN, "confidence": confidence, "withheld": UNSURE}
    return {"label": best, "confidence": confidence}
