"""CaFE: 12 actors, six Canadian French sentences, seven acted emotions (Gournay et al., ACM MMSys 2018).

A file is named ``actor-emotion-intensity-sentence``, e.g. ``01-C-2-1``; a neutral one has no intensity,
``01-N-1``. ``Readme.txt`` of the release explains the codes. The folders (``Colère/Fort``) say the same and
are not read: some unpackers garble their accents.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "cafe"
EMOTIONS = {
    "C": "anger",
    "D": "disgust",
    "J": "happiness",
    "N": "neutral",
    "P": "fear",
    "S": "surprise",
    "T": "sadness",
}
LEVELS = {"1": "low", "2": "high"}
AGES = {
    **{"01": 46, "02": 64, "03": 18, "04": 50, "05": 22, "06": 34},
    **{"07": 15, "08": 25, "09": 42, "10": 20, "11": 35, "12": 37},
}
SENTENCES = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}
_FILE = re.compile(r"(\d\d)-([A-Z])-(?:(\d)-)?(\d)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of CaFE.

    Speakers are the actor numbers, "01" to "12", men odd and women even. ``intensity_level`` is empty for
    neutral speech.

    Args:
        root: the folder with ``Colère``, ``Dégoût`` and so on, whatever their names have become, at any
            depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any]:
        actor, emotion, level, sentence = parts_of(path, _FILE, "actor-emotion-intensity-sentence")
        return {
            "speaker": actor,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": "male" if int(actor) % 2 else "female",
            "text": decoded("sentence", sentence, SENTENCES),
            "language": "fr",
            "intensity_level": None if emotion == "N" else decoded("intensity", level or "", LEVELS),
            "age": decoded("actor", actor, AGES),
        }

    return collect(root, NAME, row)
