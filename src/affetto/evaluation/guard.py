"""Refuses a number that would rest on labels of test speakers, or on a choice made on test.

What a run knows about itself comes as ``meta``:

- ``chosen_on``: the part that epochs and settings were chosen on, one name, a list, or ``{what: part}``.
- ``speakers_seen_with_labels``: a list, ``{fold: list}``, or ``"unknown"`` (weights from elsewhere).
- ``speakers_seen_without_labels``: the same, for pretraining; printed, not refused.
- ``label_fraction`` and ``speakers_pretrained_with_labels``: a share of the labels, and ``{fold: list}`` of
  speakers whose labels pretraining had all the same; printed.
- ``speaker_dependent``: the run shares speakers between parts on purpose.

Speakers are plain ids, or ``corpus/speaker`` where ids of several corpora would clash.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from affetto.errors import LeakError, some

STAMP = "speaker-dependent"
ALLOWED_CHOICES = ("dev", "train", "nothing", "none", "fixed")


def check_leaks(table: pd.DataFrame, meta: Mapping[str, Any], speaker_dependent: bool = False) -> list[str]:
    """Proves that the test part was neither learned from nor chosen on.

    Returns notes for the report: what was seen without labels, and what is not known. Of a run that is marked
    ``speaker_dependent`` shared speakers are noted instead of refused.
    """
    notes = _check_choices(meta)
    tested = {fold: set(rows["speaker"]) for fold, rows in table[table["part"] == "test"].groupby("fold")}
    problems = _shared_between_parts(table)
    problems += [
        f"fold {fold} tests {_names(both)}, whose labels the recogniser was trained on"
        for fold, names in _by_fold(meta.get("speakers_seen_with_labels"), tested).items()
        if (both := tested[fold] & names)
    ]
    if problems and not speaker_dependent:
        raise LeakError(
            f"{'; '.join(problems)}; a speaker-independent score needs test speakers that nobody has heard. "
            f"Split by speaker, or mark the run as {STAMP}"
        )
    if speaker_dependent:
        notes.append(f"This run is {STAMP}: its numbers say nothing about new speakers.")
    pretrained = _by_fold(meta.get("speakers_pretrained_with_labels"), tested).values()
    most, share = max(map(len, pretrained), default=0), meta.get("label_fraction", 1.0)
    if most and share != 1:
        notes.append(
            "Labels were not as few as they look: pretraining had seen all emotion labels of "
            f"{most} speakers, beside the {100 * share:g} % that the recogniser learned from."
        )
    return notes + _unlabelled_notes(meta, tested)


def _check_choices(meta: Mapping[str, Any]) -> list[str]:
    value = meta.get("chosen_on")
    if value is None:
        return ["The run does not say on which part its epochs and settings were chosen."]
    for what, part in (value if isinstance(value, Mapping) else {"something": value}).items():
        for name in part if isinstance(part, list | tuple | set | frozenset) else [part]:
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


def _by_fold(value: Any, folds: Iterable[Any]) -> dict[Any, set[str]]:
    """Returns the speakers that ``value`` names for each fold."""
    if value is None or isinstance(value, str):
        return {}
    if isinstance(value, Mapping):
        known = {str(fold): set(map(str, names)) for fold, names in value.items()}
        return {fold: known.get(str(fold), set()) for fold in folds}
    return {fold: set(map(str, value)) for fold in folds}


def _unlabelled_notes(meta: Mapping[str, Any], tested: Mapping[Any, set[str]]) -> list[str]:
    notes = []
    if meta.get("speakers_seen_with_labels") == "unknown":
        notes.append("It is not known which speakers the weights had seen with labels.")
    without = meta.get("speakers_seen_without_labels")
    if without == "unknown":
        return [*notes, "It is not known which speakers the weights had seen without labels."]
    seen = {fold: both for fold, names in _by_fold(without, tested).items() if (both := tested[fold] & names)}
    if seen:
        everyone = _names(set().union(*seen.values()))
        folds = ", ".join(map(str, seen))
        notes.append(f"Seen without labels in pretraining: {everyone}, tested in fold {folds}.")
    return notes


def _names(speakers: Iterable[str]) -> str:
    named = set(speakers)
    return f"speaker{'s' * (len(named) > 1)} {some(named, 6)}"
