"""A stream gives the rows of a file, as soon as they are complete."""

import tracemalloc
from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from affetto import Manifest, Recogniser
from affetto.audio import decode
from affetto.tables import Row


@cache
def small() -> Recogniser:
    return Recogniser.from_pretrained("small", any_sound=True)


@pytest.fixture(scope="module")
def sound(corpus: Manifest) -> NDArray[np.float32]:
    """Some seconds of toy speech; the last window is cut short."""
    return np.concatenate([decode(corpus.path(row)) for row in range(8)])[: 16_000 * 5 + 777]


def same(streamed: list[Row], of_file: list[Row]) -> None:
    assert len(streamed) == len(of_file) > 0
    for one, other in zip(streamed, of_file, strict=True):
        assert {name: one[name] for name in ("start", "end", "label", "error")} == {
            name: other[name] for name in ("start", "end", "label", "error")
        }
        for name in small().format.predictions:
            assert one[name] == pytest.approx(other[name], abs=1e-5)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("size", [1_600, 50_000])
def test_a_stream_gives_the_rows_of_a_file(sound: NDArray[np.float32], rate: int, size: int) -> None:
    own = np.stack([sound, sound / 2], 1)
    pieces = (own[start : start + size] for start in range(0, len(own), size))
    same(
        list(small().stream(pieces, rate, window=1.0, hop=0.5)),
        list(small().files([(own, rate)], window=1.0, hop=0.5)),
    )


def test_a_stream_is_adapted_to_an_enrolled_speaker(corpus: Manifest, sound: NDArray[np.float32]) -> None:
    enrolment = small().enrol([corpus.path(row) for row in range(3)])
    streamed = list(small().stream([sound], enrolment=enrolment))
    same(streamed, list(small().files([(sound, 16_000)], window=2.0, hop=1.0, enrolment=enrolment)))
    assert streamed[0]["p_anger"] != next(small().stream([sound]))["p_anger"]
    assert streamed[0]["enrolment"] == 3


def test_the_first_row_comes_after_one_window_and_memory_does_not_grow() -> None:
    taken = 0

    def endless() -> Iterator[NDArray[np.float32]]:
        nonlocal taken
        while True:
            taken += 1
            yield np.random.default_rng(taken).normal(0, 0.1, 16_000).astype(np.float32)

    rows = small().stream(endless(), window=1.0, hop=0.5)
    next(rows)
    assert taken == 1
    tracemalloc.start()
    held = []
    for _ in range(2):
        assert len(list(islice(rows, 16))) == 16
        held.append(tracemalloc.get_traced_memory()[0])
    assert held[1] - held[0] < 4 * 16_000  # less than a second, of the eight that came
    tracemalloc.stop()


def test_a_stream_that_ends_early_or_breaks_is_no_surprise() -> None:
    assert list(small().stream([])) == []
    (row,) = small().stream([np.zeros(100, np.float32)])
    assert (row["start"], row["end"]) == (0.0, 100 / 16_000)
    (row,) = small().stream([np.full(32_000, np.nan, np.float32)])
    assert "NaN" in row["error"]
