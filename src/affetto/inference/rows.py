"""The outputs of a network for pieces, as rows of a table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.errors import ConfigError, unknown
from affetto.inference.enrolment import Enrolments, enrolment_of
from affetto.inference.pipeline import Computed
from affetto.inference.sources import Piece
from affetto.inference.writers import NUMBER, TEXT, WHOLE, Row

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

    def types(self, enrolled: bool) -> dict[str, Any]:
        """Returns the columns of a table with their types; two more where speakers are enrolled."""
        types = {"file": TEXT, "start": NUMBER, "end": NUMBER}
        types |= {} if self.values else {"label": TEXT, "confidence": NUMBER}
        types |= {**dict.fromkeys(self.predictions, NUMBER), "withheld": TEXT, "error": TEXT}
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


def least_confidence(withhold: float | str | None, form: RowFormat, config: Mapping[str, Any]) -> float:
    """Returns the confidence under which answers are withheld, of a number or a share that dev knows."""
    known = config.get("withholding", {})
    if withhold is None:
        return 0.0
    if form.values:
        raise ConfigError("a recogniser of dimensions has no confidence; leave withhold out")
    try:
        least = float(known[withhold]["confidence"] if withhold in known else withhold)
    except ValueError as error:
        raise ConfigError(unknown("share to withhold", withhold, [*known, "a confidence"])) from error
    if not 0 <= least <= 1:
        raise ConfigError(f"got a least confidence of {withhold}; it must be 0 to 1, or a share as 20%")
    return least


def rows_of(
    computed: Iterable[Computed], form: RowFormat, enrolment: Enrolments | None, least: float
) -> Iterator[tuple[Piece, Row]]:
    """Yields a row for each piece, whose probabilities or values are ``(K,)``, NaN without speech.

    Answers with less confidence than ``least`` are withheld.
    """
    names = list(form.types(enrolment is not None))
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
                row.update(zip(form.predictions, predicted.astype(np.float64).tolist(), strict=True))
            if not form.values:
                row.update(_answer(row, form, least))
        if enrolment is not None:
            own = enrolment_of(enrolment, clip)
            row.update(enrolment=own.utterances if own else 0, enrolled=clip.enrolled)
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
