"""EMO-DB: 10 speakers, ten German sentences, seven acted emotions (Burkhardt et al., Interspeech 2005).

A file is named by speaker, sentence, emotion letter and version, e.g. ``03a01Fa``.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "emodb"
EMOTIONS = {
    "A": "fear",
    "E": "disgust",
    "F": "happiness",
    "L": "boredom",
    "N": "neutral",
    "T": "sadness",
    "W": "anger",
}
GENDERS = {
    **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
    **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_FILE = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


def scan(root: Path) -> Manifest:
    """Makes the manifest of EMO-DB; ``take`` is the version letter.

    Args:
        root: the folder with ``wav``, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any]:
        speaker, sentence, emotion, take = parts_of(
            path, _FILE, "by speaker, sentence, emotion letter and version"
        )
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": decoded("speaker", speaker, GENDERS),
            "text": decoded("sentence", sentence, SENTENCES),
            "language": "de",
            "take": take,
        }

    return collect(root, NAME, row)
