"""Emotion names: one spelling for each, and the named maps that protocols apply."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import yaml

from affetto.errors import ManifestError, unknown

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


def with_votes_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns a table with raters' votes for the classes of a named map, those of merged emotions summed."""
    parts: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        emotion = column.removeprefix("votes_")
        if emotion != column and (target := apply_map(emotion, name)) is not None:
            parts.setdefault(f"votes_{target}", []).append(column)
    sums = {target: table[own].sum(axis=1, min_count=1) for target, own in parts.items()}
    merged = [column for own in parts.values() for column in own if column not in sums]
    return table.drop(columns=merged).assign(**sums)
