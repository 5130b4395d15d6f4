"""Shards hold what was computed, whatever its names, and drop a recording whose last row is missing."""

import json
import tracemalloc
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow
import pytest

from affetto.errors import RunError
from affetto.inference import writers
from affetto.inference.writers import NUMBER, TEXT, Shards
from affetto.tables import write_lines, write_parquet

TYPES = {"file": TEXT, "start": NUMBER, "error": TEXT}


def fill(shards: Shards, rows: int, stop: bool = False) -> None:
    """Adds two recordings of some windows each; ``stop`` in the middle of the second."""

    def join() -> None:
        write_lines(shards.output, list(TYPES), chain.from_iterable(shards.rows()))

    with shards.opened({}, join):
        for name in shards.rest(["one", "two"], str):
            for number in range(rows):
                if stop and name == "two" and number == rows - 1:
                    raise KeyboardInterrupt
                row = {"file": f"{name}\udcff", "start": number / 3, "error": None}
                shards.add(name, row, number == rows - 1)


@pytest.mark.parametrize("rows", [3, 4, 5, 9])
def test_a_recording_that_is_not_complete_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(writers, "SHARD_ROWS", 4)
    straight, stopped = Shards(tmp_path / "a.csv", TYPES), Shards(tmp_path / "b.csv", TYPES)
    fill(straight, rows)
    with pytest.raises(KeyboardInterrupt):
        fill(stopped, rows, stop=True)
    assert stopped.begun
    again = Shards(tmp_path / "b.csv", TYPES)
    fill(again, rows)
    assert again.resumed == 1
    assert again.clips == 2
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "a.csv").read_bytes().splitlines()[2] == b"one\xff,0.333333,"
    assert not again.part.exists()


def test_text_that_is_no_utf8_is_replaced_in_parquet(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "a.parquet", TYPES)
    path = shards.output

    def join() -> None:
        rows = chain.from_iterable(shards.rows(errors="replace"))
        write_parquet(path, pyarrow.schema(TYPES), rows)

    with shards.opened({}, join):
        shards.add("one", {"file": "one\udcff", "start": None, "error": "no"})
    assert pd.read_parquet(path)["file"].tolist() == ["one\ufffd"]


def test_json_lines_round_and_shards_of_other_options_are_refused(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "a.jsonl", TYPES)
    with pytest.raises(KeyboardInterrupt), shards.opened({"layer": 1}, lambda: None):
        raise KeyboardInterrupt
    with pytest.raises(RunError, match=r"other options \(layer\)"), shards.opened({"layer": 2}, lambda: None):
        pass
    fresh = Shards(tmp_path / "b.jsonl", TYPES)
    fill(fresh, 2)
    first = json.loads(fresh.output.read_text(errors="surrogateescape").splitlines()[1])
    assert first == {"file": "one\udcff", "start": 0.333333, "error": None}


def test_going_on_takes_few_bytes_a_recording(tmp_path: Path) -> None:
    names = [f"{number:0100d}" for number in range(8000)]
    stopped = Shards(tmp_path / "a.csv", TYPES)
    with pytest.raises(KeyboardInterrupt), stopped.opened({}, list):  # noqa: PT012
        for name in names:
            stopped.add(name, {"file": "a", "start": 0.0, "error": None})
        raise KeyboardInterrupt
    tracemalloc.start()
    try:
        with Shards(tmp_path / "a.csv", TYPES).opened({}, list):
            assert tracemalloc.get_traced_memory()[1] < 120 * len(names)
    finally:
        tracemalloc.stop()
