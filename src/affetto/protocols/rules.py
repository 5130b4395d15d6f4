"""Rules that make folds for any manifest; the same manifest gives the same folds on every machine."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from affetto.errors import ProtocolError

if TYPE_CHECKING:
    import pandas as pd

    from affetto.protocols.folds import Rule


def deal(name: str, rule: "Rule", table: "pd.DataFrame") -> list[list[str]]:
    """Returns the part of every row, fold by fold.

    The order in which speakers or clips are dealt comes from a hash of their names and the seed, so that it
    does not depend on the order of the rows, nor on any library's random numbers.

    Args:
        name: the protocol's name, for errors.
        rule: which rule, and its settings.
        table: the rows that take part; every row has a speaker.

    Returns:
        For each fold, ``"train"``, ``"dev"`` or ``"test"`` for each row.

    Raises:
        ProtocolError: when there are fewer speakers or corpora than the rule needs.
    """
    speakers = [
        f"{corpus or ''}/{speaker}" for corpus, speaker in zip(table["corpus"], table["speaker"], strict=True)
    ]
    match rule.kind:
        case "speaker-kfold":
            strata = dict(zip(speakers, table["gender"], strict=True))
            return _cycle(name, "speakers", speakers, _spread(strata, rule.folds, rule.seed), rule.folds)
        case "leave-one-speaker-out":
            order = {speaker: place for place, speaker in enumerate(sorted(set(speakers)))}
            return _cycle(name, "speakers", speakers, order, len(order))
        case "random-by-clip":
            keys = [str(key) for key in table["key"]]
            strata = dict(zip(keys, table["emotion"], strict=True))
            return _cycle(name, "clips", keys, _spread(strata, rule.folds, rule.seed), rule.folds)
        case "cross-corpus":
            return [_cross(rule, speakers, [str(corpus) for corpus in table["corpus"]])]
        case "split-column":
            return [["test" if part == rule.test_split else str(part) for part in table["split"]]]
        case "two-speakers":
            return _two(name, rule, speakers, [str(text) for text in table["text"]])
        case "leave-one-corpus-out":
            return _corpora(name, rule, speakers, [str(corpus) for corpus in table["corpus"]])


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


def _spread(strata: dict[str, str], folds: int, seed: int) -> dict[str, int]:
    """Deals units round, one stratum after the other, so that each fold gets its share of every stratum."""
    order = sorted(strata, key=lambda unit: (str(strata[unit] or ""), _rank(unit, seed)))
    return {unit: place % folds for place, unit in enumerate(order)}


def _corpora(name: str, rule: "Rule", speakers: Sequence[str], corpora: Sequence[str]) -> list[list[str]]:
    names = sorted(set(corpora))
    if len(names) < 2:
        raise ProtocolError(
            f"{name} needs at least 2 corpora; this manifest has {', '.join(names) or 'none'}"
        )
    dev: set[str] = set()
    for corpus in names:
        dev |= _some({who for who, of in zip(speakers, corpora, strict=True) if of == corpus}, rule)
    return [
        [
            "test" if corpus == left_out else "dev" if speaker in dev else "train"
            for speaker, corpus in zip(speakers, corpora, strict=True)
        ]
        for left_out in names
    ]


def _cross(rule: "Rule", speakers: Sequence[str], corpora: Sequence[str]) -> list[str]:
    dev = _some({who for who, of in zip(speakers, corpora, strict=True) if of == rule.train_corpus}, rule)
    return [
        "test" if corpus == rule.test_corpus else "dev" if speaker in dev else "train"
        for speaker, corpus in zip(speakers, corpora, strict=True)
    ]


def _two(name: str, rule: "Rule", speakers: Sequence[str], texts: Sequence[str]) -> list[list[str]]:
    """Each speaker is tested once; of the other, some texts are dev."""
    both = sorted(set(speakers))
    if len(both) != 2 or len(set(texts)) < 2:
        raise ProtocolError(
            f"{name} needs 2 speakers who say several texts; this manifest has {len(both)} speakers and "
            f"{len(set(texts))} texts"
        )
    dev = _some(set(texts), rule)
    return [
        [
            "test" if speaker == tested else "dev" if text in dev else "train"
            for speaker, text in zip(speakers, texts, strict=True)
        ]
        for tested in both
    ]


def _some(units: set[str], rule: "Rule") -> set[str]:
    """Draws the share of units that is dev, at least one."""
    order = sorted(units, key=lambda unit: (_rank(unit, rule.seed), unit))
    return set(order[: max(1, round(rule.dev_share * len(order)))])


def _rank(unit: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{unit}".encode()).hexdigest()
