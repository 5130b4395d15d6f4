"""From what the network says of pieces to the rows of a table."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from affetto.inference.enrolment import Enrolments, enrolment_of
from affetto.inference.sources import Clip, Piece

Row = dict[str, Any]
"""A line of the table: ``file, start, end, label, confidence, p_<label>..., error``; of a recogniser of
dimensions ``file, start, end, <dimension>..., error``."""


class Score(TypedDict):
    """One class and its probability, as a Hugging Face pipeline words it; or a dimension and its value."""

    label: str
    score: float


class Predicted(NamedTuple):
    """Rows of one clip.

    Attributes:
        clip: what they are about.
        rows: one, or one a window.
        last: whether no further rows of this clip follow.
    """

    clip: Clip
    rows: list[Row]
    last: bool


class Answer(NamedTuple):
    """What a recogniser tells, and how a table writes it.

    Attributes:
        labels: the K classes or dimensions.
        values: whether they are dimensions, each with a value; else classes, each with a probability.
    """

    labels: list[str]
    values: bool

    def columns(self, enrolled: bool) -> list[str]:
        """Returns the columns of a table; two more where speakers are enrolled."""
        names = ["file", "start", "end", *self.cells(np.zeros(len(self.labels))), "error"]
        return [*names, "enrolment", "enrolled"] if enrolled else names

    def cells(self, told: NDArray[np.float64]) -> Row:
        """Returns the cells of a row from probabilities or values ``(K,)``."""
        if self.values:
            return dict(zip(self.labels, told.tolist(), strict=True))
        best = int(told.argmax())
        row: Row = {"label": self.labels[best], "confidence": float(told[best])}
        row.update((f"p_{label}", share) for label, share in zip(self.labels, told.tolist(), strict=True))
        return row

    def scores(self, told: NDArray[np.float64]) -> list[Score]:
        """Returns every class with its probability, the likeliest first; or the dimensions in their order."""
        order = range(len(told)) if self.values else np.argsort(-told, kind="stable").tolist()
        return [{"label": self.labels[place], "score": float(told[place])} for place in order]


def mean(parts: list[tuple[Piece, NDArray[Any]]]) -> NDArray[np.float64]:
    """Averages what was told of pieces, ``(K,)`` each, each counted by its length."""
    if len(parts) == 1:
        return parts[0][1].astype(np.float64)
    weights = np.array([piece.end - piece.start for piece, _ in parts])
    return np.average(np.stack([row for _, row in parts]).astype(np.float64), axis=0, weights=weights)


def rows_of(
    results: Iterable[tuple[Piece, NDArray[np.float32] | None]],
    answer: Answer,
    each: bool,
    enrolment: Enrolments | None,
) -> Iterator[Predicted]:
    """Makes rows of pieces.

    Args:
        results: pieces in order, each with its probabilities or values ``(K,)``.
        answer: what these stand for.
        each: whether every piece gets a row, or all of a clip one.
        enrolment: what they were scored with.
    """
    parts: list[tuple[Piece, NDArray[Any]]] = []
    names = answer.columns(enrolment is not None)
    for piece, told in results:
        if told is not None:
            parts.append((piece, told))
            if not each and not piece.last:
                continue
        elif not each:
            parts.clear()  # a recording that breaks off is not scored at all
        clip = piece.clip
        row: Row = dict.fromkeys(names)
        row.update(file=clip.file, start=piece.start, end=piece.end, error=piece.fault or None)
        if told is None:
            row.update(start=clip.start, end=clip.end)
        else:
            row.update(answer.cells(mean(parts)), start=parts[0][0].start)
        if enrolment is not None:
            own = enrolment_of(enrolment, clip)
            row.update(enrolment=own.utterances if own else 0, enrolled=clip.enrolled)
        parts.clear()
        yield Predicted(clip, [row], piece.last)
