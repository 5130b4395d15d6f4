"""The outputs of a network for pieces, as rows of a table."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.inference.enrolment import Enrolments, enrolment_of
from affetto.inference.pipeline import Computed
from affetto.inference.sources import Piece
from affetto.inference.writers import NUMBER, TEXT, WHOLE, Row


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
        types |= {**dict.fromkeys(self.predictions, NUMBER), "error": TEXT}
        return types | {"enrolment": WHOLE, "enrolled": pyarrow.bool_()} if enrolled else types

    def scores(self, row: Row) -> list[Score]:
        """Returns every class with its probability, the likeliest first; or the dimensions in their order."""
        pairs = zip(self.labels, self.predictions, strict=True)
        scores: list[Score] = [{"label": label, "score": row[name]} for label, name in pairs]
        return scores if self.values else sorted(scores, key=lambda score: -score["score"])


def rows_of(
    computed: Iterable[Computed], form: RowFormat, enrolment: Enrolments | None
) -> Iterator[tuple[Piece, Row]]:
    """Yields a row for each piece, whose probabilities or values are ``(K,)``."""
    names = list(form.types(enrolment is not None))
    for piece, predicted in computed:
        clip = piece.clip
        row: Row = dict.fromkeys(names)
        if predicted is None:
            row.update(file=clip.file, start=clip.start, end=clip.end, error=piece.fault or None)
        else:
            numbers = predicted.astype(np.float64).tolist()
            row.update(zip(form.predictions, numbers, strict=True))
            row.update(file=clip.file, start=piece.start, end=piece.end)
            if not form.values:
                best = int(predicted.argmax())
                row.update(label=form.labels[best], confidence=numbers[best])
        if enrolment is not None:
            own = enrolment_of(enrolment, clip)
            row.update(enrolment=own.utterances if own else 0, enrolled=clip.enrolled)
        yield piece, row
