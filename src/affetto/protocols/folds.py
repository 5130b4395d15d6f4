"""Folds: lists of speakers or sessions, and the proof that no speaker is in two parts."""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from affetto.config import Settings
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import some
from affetto.errors import ProtocolError

PARTS = ("train", "dev", "test")


class Fold(NamedTuple):
    """Which rows are in which part of one fold, by key."""

    number: int  # 1 for the first fold
    train: tuple[str, ...]
    dev: tuple[str, ...]  # rows to choose on (epochs, settings, calibration)
    test: tuple[str, ...]  # rows to score, once


def _expand(value: Any) -> Any:
    """Turns ``"1001 1004 1076-1079"`` into the ids it stands for."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if not isinstance(value, str):
        raise ValueError('ids are text: write them in quotes, as in "03 08 1076-1079"')
    ids: list[str] = []
    for word in value.split():
        if between := re.fullmatch(r"(\d+)-(\d+)", word):
            first, last = between.groups()
            ids += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            ids.append(word)
    return tuple(ids)


Ids = Annotated[tuple[str, ...], BeforeValidator(_expand)]


class Lists(Settings):
    """Units of one fold; all others are train."""

    test: Ids
    dev: Ids

    def parts(self, units: Sequence[str]) -> list[str]:
        """Returns the part of every row, from its unit."""
        return ["test" if unit in self.test else "dev" if unit in self.dev else "train" for unit in units]


def proved(name: str, number: int, manifest: Manifest, parts: Sequence[str], shared: bool) -> Fold:
    """Returns a fold of which no part is empty and, unless ``shared``, no speaker is in two parts."""
    keys: dict[str, list[str]] = {part: [] for part in PARTS}
    speakers: dict[str, set[tuple[str | None, str]]] = {part: set() for part in PARTS}
    columns = (manifest.table[column] for column in ("corpus", "speaker"))
    for key, corpus, speaker, part in zip(manifest.keys, *columns, parts, strict=True):
        keys[part].append(key)
        speakers[part].add((corpus, speaker))
    if empty := [part for part in PARTS if not keys[part]]:
        raise ProtocolError(f"{name}: fold {number} has nobody in {' and '.join(empty)}")
    for one, other in combinations(PARTS, 2):
        if (both := speakers[one] & speakers[other]) and not shared:
            names = some(speaker for _, speaker in both)
            raise ProtocolError(f"{name}: fold {number} has speaker {names} in {one} and in {other}")
    return Fold(number, *(tuple(keys[part]) for part in PARTS))
