"""SAVEE: four men, English sentences of TIMIT, seven acted emotions (Haq, Jackson, AVSP 2009).

A file is named by emotion and sentence, in a folder of its speaker: ``DC/a01``; in the flat copy the speaker
comes first, ``DC_a01``. ``AudioData/Info.txt`` of the release explains the letters; it does not say which
sentence has which number, so ``text`` stays empty.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "savee"
EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
GENDERS = dict.fromkeys(("DC", "JE", "JK", "KL"), "male")
_FILE = re.compile(r"(?:([A-Z]{2})_)?([a-z]{1,2})(\d\d)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of SAVEE; a key is the speaker and the file, ``DC_a01``, in both layouts.

    Args:
        root: the folder with ``AudioData``, or with the flat copy, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any]:
        speaker, emotion, sentence = parts_of(path, _FILE, "by emotion and sentence, like a01 or DC_a01")
        speaker = speaker or path.parent.name
        return {
            "key": f"{speaker}_{emotion}{sentence}",
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": decoded("speaker", speaker, GENDERS),
            "language": "en",
        }

    return collect(root, NAME, row)
