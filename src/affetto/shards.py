"""Shares of a run: which rows a shard takes, and the description of its output, by which parts are merged."""

import hashlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from affetto.errors import ConfigError, RunError
from affetto.runs import read_json, write_text

DESCRIBED = ".shard.json"  # after the name of a part


class Shard(NamedTuple):
    """A share of the rows: number ``1`` to ``count``."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Reads ``"3/8"``, the third of eight; None stays None."""
        if text is None:
            return None
        first, _, second = text.partition("/")
        if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
            raise ConfigError(f"got --shard {text}; I/N is needed, with I from 1 to N, e.g. 3/8")
        return cls(int(first), int(second))


class Division:
    """Decides which rows belong to a shard, by a hash of their names, and counts all of them.

    All machines agree as long as they list the same rows in the same order; ``sha256`` is of this list.
    Without a shard every row is taken.
    """

    def __init__(self, shard: Shard | None) -> None:
        self.shard = shard
        self.place = -1  # of the last row, among all
        self.places = array("q")  # of the rows that were taken
        self.rows: list[tuple[int, dict[str, Any]]] = []  # of a scan, each with its place
        self._names = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hash over the names of all rows so far."""
        return self._names.hexdigest()

    @property
    def others(self) -> int:
        """How many rows belong to other shards."""
        return self.place + 1 - len(self.places)

    def takes(self, *names: object, owner: str | None = None) -> bool:
        """Whether the next row is taken; those of one ``owner`` stay together."""
        self.place += 1
        if self.shard is not None:
            name = "\0".join(map(str, names)).encode("utf-8", "surrogateescape")
            self._names.update(name + b"\n")
            whole = name if owner is None else owner.encode("utf-8", "surrogateescape")
            number = int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big")
            if number % self.shard.of != self.shard.number - 1:
                return False
        self.places.append(self.place)
        return True

    def keep(self, row: dict[str, Any]) -> None:
        """Keeps what a scan made of the row that was taken last."""
        if self.shard is not None:
            self.rows.append((self.place, row))


def describe_part(
    part: Path, shard: Shard, places: Sequence[int], settings: dict[str, Any], **facts: Any
) -> None:
    """Writes ``PART.shard.json``: which shard it is, the place of each row, and what all parts have alike."""
    content = {"shard": str(shard), "settings": settings, **facts, "places": list(places)}
    write_text(described(part), json.dumps(content, ensure_ascii=False, default=str) + "\n")


def described(part: Path) -> Path:
    """Returns the file that describes a part."""
    return part.with_name(f"{part.name}{DESCRIBED}")


def refuse_other(part: Path, shard: Shard | None) -> None:
    """Refuses a finished output that is another shard, or none, with a RunError."""
    found = read_json(described(part))["shard"] if described(part).exists() else None
    if found != (None if shard is None else str(shard)):
        there = f"shard {found}" if found else "the output of a run without --shard"
        asked = f"shard {shard}" if shard else "all rows"
        raise RunError(f"{part} is {there}, and {asked} were asked for; name another output with -o")
