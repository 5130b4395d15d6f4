"""Protocols as files: who is train, dev and test, on which labels, and what others have published.

A protocol is one YAML file. A published split lists the speakers (or sessions) of every fold; a rule makes
the folds for any manifest. Lists are one string of ids, where ``1001-1018`` stands for all ids between:

    test: "1048 1069 1071 1074 1076-1079"
"""

import hashlib
import json
import warnings
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from affetto.config import Settings, build, parse
from affetto.corpora.checks import alike
from affetto.corpora.labels import LABEL_MAPS, apply_map, with_votes
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import COLUMNS
from affetto.errors import ConfigError, ProtocolError, some, unknown
from affetto.protocols.folds import Fold, Ids, Lists, Rule, proved

PAIR = "TRAIN-to-TEST"
_SILENT = "1076_MTI_SAD_XX"  # a clip of CREMA-D without sound
_TAKEN = "confidence enrolled enrolment error fold label mean method part seed truth"  # names in other tables


class Published(Settings):
    """A figure that somebody published."""

    system: str
    metric: str  # ``uar``, ``war``, ``macro_f1``, or another in words
    value: float = Field(ge=0, le=1)
    source: str
    caveat: str = ""  # what to know before comparing
    comparable: bool = True  # False for a figure that measures something else, and is shown apart


class Protocol(Settings):
    """Who is train, dev and test, on which labels; see the module's text for the file."""

    name: str
    description: str  # one line
    corpus: str | None = None  # whose manifest it is for; None for any
    labels: tuple[str, ...] = ()  # the classes in order; empty for all that the manifest has
    dimensions: tuple[str, ...] = ()  # columns of numbers to predict in place of classes, such as valence
    label_map: str | None = None  # a name of LABEL_MAPS; None to leave labels as they are
    label_source: str  # where the labels come from
    unit: Literal["speaker", "session", "corpus", "clip"] = "speaker"  # what the fold lists name
    units: Ids = ()  # every speaker or session that the manifest must have, and no other
    folds_listed: tuple[Lists, ...] = Field((), alias="folds")  # the published split
    rule: Rule | None = None  # how to make folds, where there is no list
    dev_rule: str  # where dev comes from, in words
    exclude: Ids = ()  # keys to leave out
    only: dict[str, str] = Field(default_factory=dict)  # values that columns must have
    average: Literal["mean", "pooled"] = "mean"  # of the folds' scores, or one score over all predictions
    published: tuple[Published, ...] = ()  # figures of others
    caveats: tuple[str, ...] = ()  # what a reader of any number has to know
    speaker_dependent: bool = False  # whether speakers are in several parts, on purpose

    @model_validator(mode="after")
    def _consistent(self) -> "Protocol":
        if (self.rule is None) == (not self.folds_listed):
            raise ValueError("needs either folds or a rule")
        if self.dimensions and (self.labels or self.label_map):
            raise ValueError("tells either classes (labels, label_map) or dimensions")
        if taken := {*_TAKEN.split(), *COLUMNS}.intersection(self.dimensions):
            raise ValueError(f"dimensions cannot be called {some(taken)}, which tables need for other things")
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"names a dimension twice: {', '.join(self.dimensions)}")
        if self.label_map is not None and self.label_map not in LABEL_MAPS:
            raise ValueError(unknown("label map", self.label_map, LABEL_MAPS))
        if self.label_map and set(self.labels) != set(LABEL_MAPS[self.label_map].values()):
            raise ValueError(f"labels and label_map {self.label_map} name different classes")
        for number, fold in enumerate(self.folds_listed, 1):
            for part, ids in (("dev", fold.dev), ("test", fold.test)):
                if not ids or (strange := set(ids).difference(self.units)):
                    raise ValueError(f"fold {number}: {part} names {some(strange) if ids else 'nobody'}")
            if both := set(fold.dev).intersection(fold.test):
                raise ValueError(f"fold {number}: {some(both)} in dev and in test")
        return self

    @property
    def sha256(self) -> str:
        """Hash over everything in the protocol that differs from its default."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def describe(self) -> str:
        """Returns the protocol as plain text; figures that measure something else stand apart."""
        listed = f"{len(self.folds_listed)}, listed by {self.unit}"
        folds = f"by rule: {self.rule.kind}" if self.rule else listed
        names = ", ".join(self.dimensions or self.labels) or "all that the manifest has"
        lines = [
            f"{self.name}: {self.description}",
            f"{'dimensions' if self.dimensions else 'labels'}: {names} ({self.label_source})",
            f"folds: {folds}; scores: {'mean of folds' if self.average == 'mean' else 'pooled predictions'}",
            f"dev: {self.dev_rule}",
            *([f"left out: {', '.join(self.exclude)}"] if self.exclude else []),
            *(f"only rows with {column}: {value}" for column, value in self.only.items()),
            *(f"caveat: {caveat}" for caveat in self.caveats),
        ]
        heads = {True: "published:", False: "published, of something else (do not compare):"}
        for comparable, head in heads.items():
            figures = [figure for figure in self.published if figure.comparable == comparable]
            lines += [head] if figures else []
            for figure in figures:
                source = "; ".join(filter(None, (figure.source, figure.caveat)))
                lines.append(f"  {100 * figure.value:5.1f} % {figure.metric}  {figure.system} ({source})")
        return "\n".join(lines)

    def select(self, manifest: Manifest) -> Manifest:
        """Returns the rows that take part, with their labels mapped; applying it twice changes nothing.

        ``leave-one-corpus-out`` and ``cross-corpus`` keep the classes that all their corpora have.
        """
        if self.dimensions:
            table = manifest.table
            return replace(manifest, table=table[self._rated(table, self._asked_for(manifest))])
        table, keep, by_corpus = self._mapped(manifest)
        if self._across and by_corpus and not (shared := set.intersection(*by_corpus.values())):
            classes = "; ".join(f"{corpus}: {', '.join(sorted(own))}" for corpus, own in by_corpus.items())
            raise ProtocolError(
                f"{self.name}: the corpora have no class in common ({classes}); name classes alike with "
                "affetto manifest relabel"
            )
        if self._across and by_corpus:
            keep &= table["emotion"].isin(shared)
        selected = replace(manifest, table=table[keep])
        if missing := set(self.labels or selected.labels or ["any emotion"]).difference(selected.labels):
            raise ProtocolError(f"{self.name}: no row of the manifest is labelled {some(missing)}")
        return selected

    def left_out(self, manifest: Manifest) -> dict[str, int]:
        """Returns how many rows do not take part, by their emotion; "" for those without one."""
        out = ~manifest.table["key"].isin(self.select(manifest).keys)
        return {
            str(name): int(rows)
            for name, rows in manifest.table.loc[out, "emotion"].fillna("").value_counts().items()
        }

    @property
    def _across(self) -> bool:
        return self.rule is not None and self.rule.kind in ("leave-one-corpus-out", "cross-corpus")

    def _mapped(self, manifest: Manifest) -> "tuple[pd.DataFrame, pd.Series[bool], dict[str, set[str]]]":
        """Returns all rows with their labels mapped, which are asked for, and the classes of each corpus."""
        table, keep = manifest.table, self._asked_for(manifest)
        emotions = pd.Series([self._label(emotion) for emotion in table["emotion"]], dtype=object)
        table = table.assign(emotion=emotions)
        if self.label_map is not None:
            table = with_votes(table, self.label_map)
        keep &= table["emotion"].notna()
        return table, keep, {str(name): set(own["emotion"]) for name, own in table[keep].groupby("corpus")}

    def _asked_for(self, manifest: Manifest) -> "pd.Series[bool]":
        """Returns which rows are of the corpora and have the values that the protocol asks for."""
        table, there = manifest.table, f"this manifest holds {some(manifest.corpora)}"
        joined = (f"{corpus}/{key}" for key in self.exclude for corpus in manifest.corpora)
        keep = ~table["key"].isin({*self.exclude, *joined})
        for column, value in self.only.items():
            if column not in table:
                absence = (
                    f"this manifest has no such column, which affetto scan {self.corpus or 'CORPUS'} writes"
                )
                raise ProtocolError(f"{self.name} takes rows with {column}: {value}; {absence}")
            keep &= table[column] == value
        if self.corpus is not None:
            if self.corpus not in manifest.corpora and manifest.corpora != [""]:
                raise ProtocolError(f"{self.name} is for {self.corpus}; {there}")
            keep &= table["corpus"].isna() | (table["corpus"] == self.corpus)
        if self.rule is None:
            return keep
        named = {self.rule.train_corpus, self.rule.test_corpus} - {""}
        if missing := named.difference(manifest.corpora):
            join = "put both into one with affetto manifest join"
            raise ProtocolError(f"{self.name} needs {some(missing)}; {there}; {join}")
        if named:
            keep &= table["corpus"].isin(named)
        elif self.rule.kind == "split-column":
            keep &= table["split"].isin(("train", "dev", self.rule.test_split)) & table["speaker"].notna()
        return keep

    def _rated(self, table: pd.DataFrame, keep: "pd.Series[bool]") -> "pd.Series[bool]":
        """Returns which of the rows that are kept have a number in every dimension."""
        if absent := [name for name in self.dimensions if name not in table]:
            absence = f"this manifest has no column {some(absent)}"
            raise ProtocolError(f"{self.name} tells {some(self.dimensions)}; {absence}")
        rated = keep.copy()
        for name in self.dimensions:
            numbers = pd.to_numeric(table[name], errors="coerce")
            wrong = keep & ((numbers.isna() & table[name].notna()) | np.isinf(numbers))
            if wrong.any():
                cells, keys = f"{int(wrong.sum())} cells of {name}", some(table.loc[wrong, "key"])
                raise ProtocolError(f"{self.name}: {cells} are no finite numbers: {keys}")
            rated &= numbers.notna()
        if not rated.any():
            raise ProtocolError(f"{self.name}: no row has a number in each of {some(self.dimensions)}")
        return rated

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Splits the rows that take part; a ProtocolError names any speaker that would be in two parts."""
        selected = self.select(manifest)
        table = selected.table
        for _, _, message in alike(table, "speaker"):
            warnings.warn(message, stacklevel=2)  # a leak that no proof finds
        for name in ("speaker",) if self.unit in ("clip", "speaker") else ("speaker", self.unit):
            if empty := [key for key, value in zip(selected.keys, table[name], strict=True) if value is None]:
                raise ProtocolError(f"{self.name}: {len(empty)} rows have no {name}: {some(empty)}")
        if self.rule is not None:
            parts = self.rule.parts(self.name, table)
        else:
            units, there = table[self.unit].tolist(), set(table[self.unit])
            if missing := some(set(self.units) - there):
                raise ProtocolError(f"{self.name} needs {self.unit} {missing}, which this manifest lacks")
            if extra := some(there - set(self.units)):
                raise ProtocolError(f"{self.name} does not know {self.unit} {extra} of this manifest")
            parts = [fold.parts(units) for fold in self.folds_listed]
        shared, tests = self.speaker_dependent, self.rule is None or self.rule.kind != "all-speakers"
        return [
            proved(self.name, number, selected, part, shared, tests) for number, part in enumerate(parts, 1)
        ]

    def _label(self, emotion: str | None) -> str | None:
        mapped = None if self.label_map is None else apply_map(emotion, self.label_map)
        if mapped is None and (emotion in self.labels or not (self.labels or self.label_map)):
            return emotion
        return mapped


def list_protocols() -> list[str]:
    """Returns the names of the protocols that come with affetto, sorted."""
    names = (Path(file.name) for file in files(__package__).iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yaml")


def _pair(name: str, train: str, test: str) -> Protocol:
    return Protocol(
        name=name,
        description=f"learn from {train}, test on {test}",
        label_source="the manifest's; only classes that both corpora have",
        unit="corpus",
        rule=Rule(kind="cross-corpus", train_corpus=train, test_corpus=test),
        dev_rule=f"a fifth of the speakers of {train}",
        exclude=(_SILENT,),
        caveats=("Corpora differ in language, room, loudness and in what a label means.",),
    )


def load_protocol(name: str | Path) -> Protocol:
    """Reads a protocol by its name, or from a YAML file of your own; or makes that of two corpora.

    ``crema-d-to-ravdess`` learns from the first and tests on the second, with the classes that both have.
    """
    if str(name) in list_protocols():
        text = files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    elif len(pair := str(name).split("-to-")) == 2 and all(pair) and Path(name).suffix == "":
        return _pair(str(name), *pair)
    elif Path(name).suffix in (".yaml", ".yml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ProtocolError(f"cannot read the protocol {name}: {reason}") from error
    else:
        message = unknown("protocol", name, list_protocols())
        raise ProtocolError(f"{message} (or two corpora, {PAIR}, or a .yaml file)")
    try:
        values = parse(text)
        if not isinstance(values, dict):
            raise ConfigError("a mapping of settings is needed")
        return build(Protocol, values)
    except ConfigError as error:
        raise ProtocolError(f"{name} is not a protocol: {error}") from error
