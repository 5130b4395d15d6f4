"""What is known of a manifest's columns: how they were made, and which emotion labels they rest on.

``NAME.marks.json`` next to a manifest holds the marks of its columns, in the form that ``FILE.json`` next to
an array has (:mod:`affetto.corpora.arrays`). A column without marks rests on no label.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from affetto.errors import ManifestError
from affetto.runs import write_json

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
    return read_by_name(_sidecar(manifest), Marks.of_facts, "which labels the columns rest on")


def read_by_name(file: Path, read: Callable[[Any], Fact], what: str) -> dict[str, Fact]:
    """Reads facts by name from a JSON file next to a manifest; none where there is no such file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
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
