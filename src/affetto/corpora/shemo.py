"""ShEMO: 87 speakers of Persian radio plays, six emotions (Mohamad Nezami et al., LRE 2019).

A file is named by speaker, emotion letter and number, e.g. ``F01A01``; the emotion is what most of twelve
raters heard. ``F`` in front is a woman, behind the speaker it is fear.
"""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect, decoded, matched, parts_of
from affetto.errors import ManifestError

ABOUT = About(
    name="shemo",
    title="ShEMO, radio plays, labels by vote",
    language="Persian",
    size="3,000 utterances, 3.4 h, 87 speakers",
    classes="anger fear happiness neutral sadness surprise",
    licence="free for academic use",
    obtain="github.com/pariajm/sharif-emotional-speech-dataset",
    layout="female/F01A01.wav\nmale/M02F01.wav\nshemo.json",
)
EMOTIONS = {
    "A": "anger",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
}
GENDERS = {"F": "female", "M": "male"}
_FILE = re.compile(r"(([A-Z])\d\d)([A-Z])\d+")


def scan(root: Path) -> Manifest:
    """Makes the manifest of ShEMO.

    Some texts of the release are known to belong to another recording.

    Args:
        root: the folder with ``female`` and ``male``, and ``shemo.json`` for the text; without it that column
            is empty.

    Raises:
        ManifestError: when no recording is there, or ``shemo.json`` is not what it should be.
    """
    listing = root / "shemo.json"
    texts = _texts(listing) if listing.is_file() else {}
    notes = [] if listing.is_file() else [f"{listing.name} is absent: text stays empty"]
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any]:
        speaker, gender, emotion = parts_of(path, _FILE, "by speaker, emotion letter and number")
        seen.add(path.stem)
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": decoded("gender", gender, GENDERS),
            "text": texts.get(path.stem),
            "language": "fa",
        }

    manifest = collect(root, ABOUT, row, notes=notes)
    return matched(manifest, listing.name, texts, seen) if texts else manifest


def _texts(path: Path) -> dict[str, str | None]:
    try:
        table = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ManifestError(f"{path} is not a list of utterances: {error}") from error
    if missing := {"id", "transcript"}.difference(table.columns):
        raise ManifestError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    # Some transcripts begin with a byte order mark.
    texts = table["transcript"].fillna("").astype(str).str.strip("\ufeff \n")
    return {str(key): text or None for key, text in zip(table["id"], texts, strict=True)}
