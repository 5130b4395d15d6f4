"""URDU: speech of Urdu talk shows in four emotions (Latif et al., FIT 2018).

A file is named by speaker, number of the file and emotion: ``SM1_F2_A02`` is the second of the man ``SM1``,
and an angry one. The paper counts 38 speakers; the names of the published files have 29.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "urdu"
EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
GENDERS = {"F": "female", "M": "male"}
_FILE = re.compile(r"(S([A-Z])\d+)_F\d+_([A-Z])\d+")


def scan(root: Path) -> Manifest:
    """Makes the manifest of URDU.

    Args:
        root: the folder with ``Angry``, ``Happy``, ``Neutral`` and ``Sad``, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any]:
        speaker, gender, emotion = parts_of(path, _FILE, "by speaker, file and emotion, like SM1_F2_A02")
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": decoded("gender", gender, GENDERS),
            "language": "ur",
        }

    return collect(root, NAME, row)
