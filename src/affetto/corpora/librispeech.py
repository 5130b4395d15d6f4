"""LibriSpeech: audio books, read by volunteers (Panayotov, Chen, Povey, Khudanpur, ICASSP 2015).

A file is named ``SPEAKER-CHAPTER-NUMBER``; its ``README.TXT`` documents the layout.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, lines_of, parts_of, read_about
from affetto.errors import ManifestError

ABOUT = read_about(__file__)
GENDERS = {"F": "female", "M": "male"}
_SUBSETS = "train-clean-100 train-clean-360 train-other-500 dev-clean dev-other test-clean test-other"
_FILE = re.compile(r"(\d+)-(\d+)-(\d+)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of LibriSpeech, or of the subsets that are there; no emotion is labelled.

    The session is the chapter, ``subset`` the part of the corpus, e.g. ``train-clean-100``, and ``split`` its
    first word. ``SPEAKERS.TXT``, there or in ``LibriSpeech``, gives the gender.
    """
    notes: list[str] = []
    genders, subsets = _speakers(root, notes)
    lines = [line.partition(" ") for path in root.rglob("*.trans.txt") for line in lines_of(path)]
    texts = {key: text for key, _, text in lines}
    if not texts:
        notes.append("no .trans.txt is there: text stays empty")

    def row(path: Path) -> dict[str, Any]:
        speaker, chapter, _ = parts_of(path, _FILE, "SPEAKER-CHAPTER-NUMBER")
        folders = set(_SUBSETS.split()).intersection(path.relative_to(root).parts)
        subset = next(iter(folders), None) or subsets.get(speaker)
        return {
            "speaker": speaker,
            "gender": genders.get(speaker),
            "session": chapter,
            "text": texts.get(path.stem),
            "language": "en",
            "split": subset.partition("-")[0] if subset else None,
            "subset": subset,
        }

    return collect(root, ABOUT, row, notes=notes)


def _speakers(root: Path, notes: list[str]) -> tuple[dict[str, str | None], dict[str, str]]:
    """Reads gender and subset of every reader: lines of ``ID | SEX | SUBSET | MINUTES | NAME``."""
    paths = (root / "SPEAKERS.TXT", root / "LibriSpeech" / "SPEAKERS.TXT")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        notes.append("SPEAKERS.TXT is absent: gender stays empty")
        return {}, {}
    genders: dict[str, str | None] = {}
    subsets: dict[str, str] = {}
    for line in lines_of(path):
        if not line.strip() or line.startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5:
            raise ManifestError(f"{path} is not ID | SEX | SUBSET | MINUTES | NAME in the line {line!r}")
        genders[cells[0]] = GENDERS.get(cells[1])
        subsets[cells[0]] = cells[2]
    return genders, subsets
