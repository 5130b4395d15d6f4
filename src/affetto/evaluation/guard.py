"""Refuses a number that would rest on test speakers' labels, or on a choice made on test.

What a run knows about itself comes as ``meta``:

- ``chosen_on``: the part that epochs and settings were chosen on, one name, a list, or ``{what: part}``.
- ``speakers_seen_with_labels``: a list, ``{fold: list}``, or ``"unknown"`` (weights from elsewhere).
- ``speakers_seen_without_labels``: the same, for pretraining; printed, not refused.
- ``label_fraction`` and ``speakers_pretrained_with_labels``: a share of the labels, and ``{fold: list}`` of
  those whose labels pretraining had all the same; printed.
- ``speaker_dependent``: the run shares speakers between parts on purpose.

Speakers are plain ids, or ``corpus/speaker`` where ids of several corpora would clash.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from affetto.errors import LeakError

STAMP = "speaker-dependent"
ALLOWED_CHOICES = ("dev", "train", "nothing", "none", "fixed")


def check_leaks(table: pd.DataFrame, meta: Mapping[str, Any], speaker_dependent: bool = False) -> list[str]:
    """Proves that the test part was neither learned from nor chosen on.

    Args:
        table: a checked predictions table with all its parts.
        meta: what the run says about itself, see above; may be empty for a table from elsewhere.
        speaker_dependent: the run is marked as sharing speakers; then shared speakers are noted instead of
            refused.

    Returns:
        Sentences for the report: what was seen without labels, and what is not known.

    Raises:
        LeakError: names the choice made on test, or the fold and the shared speakers.
    """
    notes = _check_choices(meta)
    shared = _shared_between_parts(table)
    seen = _seen_by_fold(meta.get("speakers_seen_with_labels"), table)
    trained = [
        f"fold {fold} tests {_names(both)}, whose labels the recogniser was trained on"
        for fold, names in seen.items()
        if (both := _tested(table, fold) & names)
    ]
    if (shared or trained) and not speaker_dependent:
        raise LeakError(
            "; ".join([*shared, *trained])
            + "; a speaker-independent score needs test speakers that nobody has heard. "
            f"Split by speaker, or mark the run as {STAMP}"
        )
    if speaker_dependent:
        notes.append(f"This run is {STAMP}: its numbers say nothing about new speakers.")
    notes += _pretraining_notes(meta, table)
    notes += _unlabelled_notes(meta, table)
    return notes


def _pretraining_notes(meta: Mapping[str, Any], table: pd.DataFrame) -> list[str]:
    """Returns what a small share of labels leaves out: those that pretraining had."""
    share = meta.get("label_fraction", 1.0)
    seen = _seen_by_fold(meta.get("speakers_pretrained_with_labels"), table).values()
    most = max((len(names) for names in seen), default=0)
    if not most or share == 1:
        return []
    return [
        f"Labels were not as few as they look: pretraining had seen all emotion labels of {most} speakers, "
        f"beside the {100 * share:g} % that the recogniser learned from."
    ]


def _check_choices(meta: Mapping[str, Any]) -> list[str]:
    value = meta.get("chosen_on")
    if value is None:
        return ["The run does not say on which part its epochs and settings were chosen."]
    choices = dict(value) if isinstance(value, Mapping) else {"something": value}
    for what, part in choices.items():
        for name in _listed(part):
            if str(name).lower() not in ALLOWED_CHOICES:
                raise LeakError(
                    f"the run says that {what} was chosen on {str(name)!r}; "
                    f"allowed: {', '.join(ALLOWED_CHOICES)}. The test part is scored once, after every choice"
                )
    return []


def _shared_between_parts(table: pd.DataFrame) -> list[str]:
    problems = []
    for fold, rows in table.groupby("fold"):
        parts = {part: set(rows.loc[rows["part"] == part, "speaker"]) for part in ("train", "dev", "test")}
        for first, second in (("train", "test"), ("dev", "test"), ("train", "dev")):
            if both := parts[first] & parts[second]:
                problems.append(f"fold {fold} has {_names(both)} in both {first} and {second}")
    return problems


def _seen_by_fold(value: Any, table: pd.DataFrame) -> dict[Any, set[str]]:
    folds = table.loc[table["part"] == "test", "fold"].unique()
    if value is None or isinstance(value, str):
        return {}
    if isinstance(value, Mapping):
        known = {str(fold): set(map(str, _listed(names))) for fold, names in value.items()}
        return {fold: known.get(str(fold), set()) for fold in folds}
    return {fold: set(map(str, value)) for fold in folds}


def _tested(table: pd.DataFrame, fold: Any) -> set[str]:
    return set(table.loc[(table["part"] == "test") & (table["fold"] == fold), "speaker"])


def _unlabelled_notes(meta: Mapping[str, Any], table: pd.DataFrame) -> list[str]:
    notes = []
    if meta.get("speakers_seen_with_labels") == "unknown":
        notes.append("It is not known which speakers the weights had seen with labels.")
    without = meta.get("speakers_seen_without_labels")
    if without == "unknown":
        notes.append("It is not known which speakers the weights had heard without labels.")
        return notes
    heard = {
        fold: both
        for fold, names in _seen_by_fold(without, table).items()
        if (both := _tested(table, fold) & names)
    }
    if heard:
        everyone = set().union(*heard.values())
        folds = ", ".join(str(fold) for fold in heard)
        notes.append(f"Heard without labels in pretraining: {_names(everyone)}, tested in fold {folds}.")
    return notes


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _names(speakers: Iterable[str]) -> str:
    ordered = sorted(speakers)
    text = ", ".join(ordered[:6]) + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")
    return f"speaker{'s' * (len(ordered) > 1)} {text}"
