"""RAVDESS speech: 24 actors, two English sentences, eight acted emotions (Livingstone, Russo, PLOS ONE 2018).

A file is named ``modality-channel-emotion-intensity-statement-repetition-actor``.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of
from affetto.errors import ManifestError

NAME = "ravdess"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
LEVELS = {"01": "normal", "02": "strong"}
SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
_FILE = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of RAVDESS speech; sung and video files are passed over.

    Speakers are the actor numbers, "01" to "24", men odd and women even; ``take`` is the repetition.

    Args:
        root: the folder with ``Actor_01`` to ``Actor_24``, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any] | None:
        modality, channel, emotion, level, sentence, take, actor = parts_of(
            path, _FILE, "modality-channel-emotion-intensity-statement-repetition-actor"
        )
        if (modality, channel) != ("03", "01"):
            return None
        if not 1 <= int(actor) <= 24:
            raise ManifestError(f"has the actor {actor}; RAVDESS has 01 to 24")
        return {
            "speaker": actor,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": "male" if int(actor) % 2 else "female",
            "text": decoded("statement", sentence, SENTENCES),
            "language": "en",
            "intensity_level": decoded("intensity", level, LEVELS),
            "take": take,
        }

    return collect(root, NAME, row)
