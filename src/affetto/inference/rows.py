"""From what the network says of pieces to the rows of a table."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from affetto.inference.enrolment import Enrolments, enrolment_of
from affetto.inference.sources import Clip, Piece

Row = dict[str, Any]
"""A line of the table: ``file, start, end, label, confidence, p_<label>..., error``."""


class Score(TypedDict):
    """One class and its probability, as a Hugging Face pipeline words it."""

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


def columns(labels: list[str], enrolled: bool) -> list[str]:
    """Returns the columns of a table; two more where speakers are enrolled."""
    names = ["file", "start", "end", "label", "confidence", *(f"p_{label}" for label in labels), "error"]
    return [*names, "enrolment", "enrolled"] if enrolled else names


def ranked(probabilities: NDArray[np.float64], labels: list[str]) -> list[Score]:
    """Returns every class with its probability, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable")
    return [{"label": labels[place], "score": float(probabilities[place])} for place in order.tolist()]


def mean(parts: list[tuple[Piece, NDArray[Any]]]) -> NDArray[np.float64]:
    """Averages the probabilities ``(K,)`` of pieces, each counted by its length."""
    if len(parts) == 1:
        return parts[0][1].astype(np.float64)
    weights = np.array([piece.end - piece.start for piece, _ in parts])
    return np.average(np.stack([row for _, row in parts]).astype(np.float64), axis=0, weights=weights)


def rows_of(
    results: Iterable[tuple[Piece, NDArray[np.float32] | None]],
    labels: list[str],
    each: bool,
    enrolment: Enrolments | None,
) -> Iterator[Predicted]:
    """Makes rows of pieces.

    Args:
        results: pieces in order, each with its probabilities ``(K,)``.
        labels: the classes.
        each: whether every piece gets a row, or all of a clip one.
        enrolment: what they were scored with.
    """
    parts: list[tuple[Piece, NDArray[Any]]] = []
    for piece, probabilities in results:
        if probabilities is not None:
            parts.append((piece, probabilities))
            if not each and not piece.last:
                continue
        elif not each:
            parts.clear()  # a recording that breaks off is not scored at all
        clip = piece.clip
        row: Row = dict.fromkeys(columns(labels, enrolment is not None))
        row.update(file=clip.file, start=piece.start, end=piece.end, error=piece.fault or None)
        if probabilities is None:
            row.update(start=clip.start, end=clip.end)
        else:
            shares = mean(parts)
            best = int(shares.argmax())
            row.update(start=parts[0][0].start, label=labels[best], confidence=float(shares[best]))
            row.update((f"p_{label}", share) for label, share in zip(labels, shares.tolist(), strict=True))
        if enrolment is not None:
            own = enrolment_of(enrolment, clip)
            row.update(enrolment=own.utterances if own else 0, enrolled=clip.enrolled)
        parts.clear()
        yield Predicted(clip, [row], piece.last)
