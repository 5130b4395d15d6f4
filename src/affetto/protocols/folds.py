"""Folds: listed by speaker or session, or made by a rule, and the proof that no speaker is in two parts.

A rule gives the same folds for the same manifest on every machine.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from affetto.config import Settings
from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError, some

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


class Rule(Settings):
    """How to make folds for any manifest.

    ``speaker-kfold`` spreads speakers over folds, even in gender; ``leave-one-speaker-out`` makes each
    speaker a fold; ``leave-one-corpus-out`` tests on one corpus and takes dev from speakers of the others;
    ``cross-corpus`` tests on one corpus and takes train and dev from another, each with the classes that both
    have; ``split-column`` takes the parts from the manifest's column ``split``, and leaves rows without a
    speaker out; ``two-speakers`` tests on each of two speakers in turn and takes dev from the texts of the
    other; ``random-by-clip`` spreads clips, even in emotion, so that speakers are shared; ``all-speakers``
    takes dev from the speakers and has no test part.
    """

    kind: Literal[
        "speaker-kfold",
        "leave-one-speaker-out",
        "leave-one-corpus-out",
        "cross-corpus",
        "split-column",
        "two-speakers",
        "random-by-clip",
        "all-speakers",
    ]
    folds: int = Field(5, ge=3)  # how many, for the rules that spread
    dev_share: float = Field(0.2, gt=0, lt=1)  # of the speakers that are not tested, or of the other's texts
    train_corpus: str = ""
    test_corpus: str = ""
    test_split: str = "test"  # the value of test in the column ``split``
    seed: int = 0  # of the order

    @model_validator(mode="after")
    def _fits(self) -> "Rule":
        if (self.kind == "cross-corpus") != bool(self.train_corpus and self.test_corpus):
            message = "train_corpus and test_corpus go together with cross-corpus, and with nothing else"
            raise ValueError(message)
        if self.test_split in ("train", "dev"):
            raise ValueError(f"got test_split={self.test_split}, which is another part")
        return self

    def parts(self, name: str, table: pd.DataFrame) -> list[list[str]]:
        """Returns ``"train"``, ``"dev"`` or ``"test"`` for every row, fold by fold."""
        corpora = [str(corpus) for corpus in table["corpus"]]
        pairs = zip(table["corpus"], table["speaker"], strict=True)
        speakers = [f"{corpus or ''}/{speaker}" for corpus, speaker in pairs]
        match self.kind:
            case "speaker-kfold":
                strata = dict(zip(speakers, table["gender"], strict=True))
                return _cycle(name, "speakers", speakers, self._spread(strata), self.folds)
            case "leave-one-speaker-out":
                order = {speaker: place for place, speaker in enumerate(sorted(set(speakers)))}
                return _cycle(name, "speakers", speakers, order, len(order))
            case "random-by-clip":
                keys = [str(key) for key in table["key"]]
                strata = dict(zip(keys, table["emotion"], strict=True))
                return _cycle(name, "clips", keys, self._spread(strata), self.folds)
            case "all-speakers":
                dev = self._dev(speakers, corpora)
                return [["dev" if speaker in dev else "train" for speaker in speakers]]
            case "split-column":
                return [["test" if part == self.test_split else str(part) for part in table["split"]]]
            case "cross-corpus":
                return [_parted(corpora, self.test_corpus, speakers, self._dev(speakers, corpora))]
            case "leave-one-corpus-out":
                names = sorted(set(corpora))
                if len(names) < 2:
                    there = ", ".join(names) or "none"
                    raise ProtocolError(f"{name} needs at least 2 corpora; this manifest has {there}")
                dev = self._dev(speakers, corpora)
                return [_parted(corpora, left_out, speakers, dev) for left_out in names]
            case "two-speakers":
                texts = [str(text) for text in table["text"]]
                both, several = sorted(set(speakers)), set(texts)
                if len(both) != 2 or len(several) < 2:
                    there = f"this manifest has {len(both)} speakers and {len(several)} texts"
                    raise ProtocolError(f"{name} needs 2 speakers who say several texts; {there}")
                return [_parted(speakers, tested, texts, self._share(several)) for tested in both]

    def _spread(self, strata: dict[str, str]) -> dict[str, int]:
        """Returns the fold of each unit, so that each fold gets its share of every stratum."""
        order = sorted(strata, key=lambda unit: (str(strata[unit] or ""), self._rank(unit)))
        return {unit: place % self.folds for place, unit in enumerate(order)}

    def _dev(self, speakers: Sequence[str], corpora: Sequence[str]) -> set[str]:
        """Returns the share of each corpus's speakers that is dev."""
        pairs = set(zip(corpora, speakers, strict=True))
        groups = [{speaker for of, speaker in pairs if of == corpus} for corpus in set(corpora)]
        return set().union(*map(self._share, groups))

    def _share(self, units: Collection[str]) -> set[str]:
        """Draws the share of units that is dev, at least one."""
        order = sorted(units, key=lambda unit: (self._rank(unit), unit))
        return set(order[: max(1, round(self.dev_share * len(order)))])

    def _rank(self, unit: str) -> str:
        # A hash orders the units, whatever the order of the rows and the random numbers of any library.
        return hashlib.sha256(f"{self.seed}/{unit}".encode()).hexdigest()


def _parted(owners: Sequence[str], tested: str, units: Sequence[str], dev: Collection[str]) -> list[str]:
    """Returns parts: the rows of one owner are test, of the others those of some units dev."""
    pairs = zip(owners, units, strict=True)
    return ["test" if owner == tested else "dev" if unit in dev else "train" for owner, unit in pairs]


def _cycle(name: str, what: str, units: Sequence[str], places: dict[str, int], folds: int) -> list[list[str]]:
    """Fold k tests on place k and chooses on place k + 1, cyclic."""
    if len(places) < max(folds, 3):
        raise ProtocolError(f"{name} needs at least {max(folds, 3)} {what}; this manifest has {len(places)}")
    parts = np.full((folds, len(units)), "train", dtype=object)
    at = np.array([places[unit] for unit in units])
    for fold in range(folds):
        parts[fold, at == fold] = "test"
        parts[fold, at == (fold + 1) % folds] = "dev"
    return [list(row) for row in parts]


def proved(
    name: str, number: int, manifest: Manifest, parts: Sequence[str], shared: bool, tests: bool = True
) -> Fold:
    """Returns a fold of which no part is empty and, unless ``shared``, no speaker is in two parts.

    With ``tests`` false, test is empty.
    """
    keys: dict[str, list[str]] = {part: [] for part in PARTS}
    speakers: dict[str, set[tuple[str | None, str]]] = {part: set() for part in PARTS}
    columns = (manifest.table[column] for column in ("corpus", "speaker"))
    for key, corpus, speaker, part in zip(manifest.keys, *columns, parts, strict=True):
        keys[part].append(key)
        speakers[part].add((corpus, speaker))
    if empty := [part for part in PARTS[: 3 if tests else 2] if not keys[part]]:
        raise ProtocolError(f"{name}: fold {number} has nobody in {' and '.join(empty)}")
    for one, other in combinations(PARTS, 2):
        if (both := speakers[one] & speakers[other]) and not shared:
            names = some(speaker for _, speaker in both)
            raise ProtocolError(f"{name}: fold {number} has speaker {names} in {one} and in {other}")
    return Fold(number, *(tuple(keys[part]) for part in PARTS))
