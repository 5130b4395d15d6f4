"""Emotion labels: one spelling for each, the maps that protocols apply, and columns that rest on labels.

``NAME.marks.json`` next to a manifest holds the marks of its columns, in the form that ``FILE.json`` next to
an array has (:mod:`affetto.corpora.arrays`). A column without marks rests on no label.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from affetto.errors import ManifestError, unknown
from affetto.runs import read_json, write_json

_READ = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_SPELLINGS: dict[str, str] = _READ["spellings"]
EMOTIONS = tuple(_SPELLINGS)  # the names that affetto writes, sorted
_CANONICAL = {word: name for name, words in _SPELLINGS.items() for word in [name, *words.split()]}
_GENDERS = {"m": "male", "man": "male", "f": "female", "w": "female", "woman": "female"}
# What becomes of each emotion, by the name of the map; an emotion that a map does not name is left out.
LABEL_MAPS: dict[str, dict[str, str]] = {
    name: {word: other or word for word, _, other in (each.partition("=") for each in words.split())}
    for name, words in _READ["maps"].items()
}


def canonical(word: str, extra: Mapping[str, str] | None = None) -> str:
    """Returns the name that affetto uses for an emotion, e.g. ``anger`` for ``Angry``, after ``extra``."""
    if extra and word in extra:
        return extra[word]
    key = word.strip().lower().replace(" ", "_").replace("-", "_")
    if key in _CANONICAL:
        return _CANONICAL[key]
    message = unknown("emotion", word, EMOTIONS)
    raise ManifestError(f"{message}; --label {word}=NAME maps it, --keep-labels takes every word as it is")


def gender_of(word: str) -> str:
    """Returns ``female`` or ``male`` for other spellings of these, and any other word in small letters."""
    word = word.strip().lower()
    return _GENDERS.get(word, word)


def apply_map(emotion: str | None, name: str) -> str | None:
    """Returns the class of an emotion in a map of :data:`LABEL_MAPS`, or None to leave the utterance out."""
    if name not in LABEL_MAPS:
        raise ManifestError(unknown("label map", name, LABEL_MAPS))
    return LABEL_MAPS[name].get(emotion) if emotion is not None else None


def dropped(emotions: Iterable[str | None], name: str) -> dict[str, int]:
    """Returns which emotions a named map leaves out, and how many utterances each has."""
    lost = (emotion for emotion in emotions if emotion is not None and apply_map(emotion, name) is None)
    return dict(sorted(Counter(lost).items()))


def with_votes(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns a table with raters' votes for the classes of a named map, those of merged emotions summed."""
    parts: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        emotion = column.removeprefix("votes_")
        if emotion != column and (target := apply_map(emotion, name)) is not None:
            parts.setdefault(f"votes_{target}", []).append(column)
    sums = {target: table[own].sum(axis=1, min_count=1) for target, own in parts.items()}
    merged = [column for own in parts.values() for column in own if column not in sums]
    return table.drop(columns=merged).assign(**sums)


Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Marks:
    """The emotion labels that a column rests on."""

    made_by: str = ""  # what made the column, in words
    labels_used: bool = False  # whether the label of a row decided the cell of that row
    # Speakers, ``corpus/speaker``, whose labels decided every cell, by fold; "" for all folds.
    with_labels: Mapping[str, list[str]] = field(default_factory=dict)
    unknown: bool = False  # whether weights from elsewhere took part, whose labels are not known

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Marks":
        """Reads marks from JSON; raises TypeError or ValueError for what has another form."""
        seen = dict(facts.get("speakers_seen", {})).get("with_labels", {})
        unknown = bool(facts.get("weights_from_elsewhere")) or seen == "unknown"
        by_fold = {} if seen == "unknown" else {"": seen} if isinstance(seen, list) else dict(seen)
        with_labels = {str(fold): sorted(map(str, names)) for fold, names in by_fold.items()}
        return cls(str(facts.get("made_by", "")), bool(facts.get("labels_used")), with_labels, unknown)

    def facts(self) -> dict[str, Any]:
        """Returns the marks as JSON."""
        seen = {fold: sorted(names) for fold, names in self.with_labels.items()}
        own = {"made_by": self.made_by, "labels_used": self.labels_used}
        return {**own, "speakers_seen": {"with_labels": seen}, "weights_from_elsewhere": self.unknown}

    def speakers(self, fold: int | None = None) -> list[str]:
        """Returns the speakers whose labels decided the cells of a fold, sorted."""
        return sorted({*self.with_labels.get("", []), *self.with_labels.get(str(fold), [])})

    def __or__(self, other: "Marks") -> "Marks":
        makers = "; ".join(dict.fromkeys(filter(None, (self.made_by, other.made_by))))
        own, more = self.with_labels, other.with_labels
        seen = {fold: sorted({*own.get(fold, ()), *more.get(fold, ())}) for fold in sorted({*own, *more})}
        labels_used, unknown = self.labels_used or other.labels_used, self.unknown or other.unknown
        return Marks(makers, labels_used, seen, unknown)


def read_marks(manifest: Path) -> dict[str, Marks]:
    """Reads the marks next to the file of a manifest, by column; none where there is no such file."""
    return read_named(_sidecar(manifest), Marks.of_facts, "which labels the columns rest on")


def read_named(file: Path, read: Callable[[Any], Fact], what: str) -> dict[str, Fact]:
    """Reads facts by name from a JSON file next to a manifest; none where there is no such file."""
    try:
        found = read_json(file) if file.exists() else {}
        return {str(name): read(fact) for name, fact in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{file} does not say {what}: {error}") from error


def write_marks(manifest: str | Path, marks: Mapping[str, Marks], *, keep: bool = True) -> None:
    """Writes marks, by column, next to the file of a manifest; those of other columns stay, if ``keep``."""
    manifest = Path(manifest)
    together = {**(read_marks(manifest) if keep else {}), **marks}
    if together:
        write_json(_sidecar(manifest), {column: each.facts() for column, each in together.items()})
    else:
        _sidecar(manifest).unlink(missing_ok=True)


def _sidecar(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.stem}.marks.json")
