"""What VoxCeleb1 and VoxCeleb2 share: a folder a speaker, in it one a video, and a table of the speakers."""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, misfit
from affetto.corpora.tabular import read_columns
from affetto.errors import ManifestError

GENDERS = {"f": "female", "m": "male"}


def scan_voices(root: Path, corpus: str, identity: str, table: str, column: str) -> Manifest:
    """Makes the manifest of one VoxCeleb.

    Args:
        root: the folder with the table and, at any depth, ``SPEAKER/VIDEO/00001.wav``.
        corpus: its name.
        identity: the pattern of its speakers' ids.
        table: the file that knows the speakers, separated by tabs or commas.
        column: where the id stands in it.

    Raises:
        ManifestError: when no recording is there, or the table lacks a column.
    """
    notes: list[str] = []
    speakers = _speakers(root / table, column, notes)
    place = re.compile(rf"({identity})/([^/]+)/(\d+)")

    def row(path: Path) -> dict[str, Any]:
        found = place.fullmatch("/".join([*path.parts[-3:-1], path.stem]))
        if found is None:
            raise ManifestError(f"does not lie as SPEAKER/VIDEO/NUMBER, with a speaker {identity}")
        speaker, video, number = found.groups()
        return {
            "key": f"{speaker}_{video}_{number}",
            "speaker": speaker,
            "session": video,
            **speakers.get(speaker, {}),
        }

    try:
        return collect(root, corpus, row, notes=notes)
    except ManifestError as error:
        if not any(root.rglob("*.m4a")):
            raise
        message = f"{root} holds .m4a, which cannot be read; convert it to wav or flac in the same folders"
        raise misfit(corpus, root, message) from error


def _speakers(path: Path, column: str, notes: list[str]) -> dict[str, dict[str, str | None]]:
    if not path.is_file():
        notes.append(f"{path.name} is absent: gender and split stay empty")
        return {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        separator = "\t" if "\t" in lines.readline() else ","
    table = read_columns(path, (column, "Gender", "Set"), separator)
    cells = (table[name].str.strip() for name in (column, "Gender", "Set"))
    return {
        speaker: {"gender": GENDERS.get(gender.lower()), "split": split.lower() or None}
        for speaker, gender, split in zip(*cells, strict=True)
    }
