"""EMO-DB: 10 speakers, ten German sentences, seven acted emotions (Burkhardt et al., Interspeech 2005).

A file is named by speaker, sentence, emotion letter and version, e.g. ``03a01Fa``.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest, collect
from affetto.errors import ManifestError

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
WOMEN = frozenset({"08", "09", "13", "14", "16"})
SPEAKERS = WOMEN | {"03", "10", "11", "12", "15"}
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
        parts = _FILE.fullmatch(path.stem)
        if parts is None:
            raise ManifestError("is not named by speaker, sentence, emotion letter and version")
        speaker, sentence, emotion, take = parts.groups()
        known = (
            ("speaker", speaker, SPEAKERS),
            ("sentence", sentence, SENTENCES),
            ("emotion", emotion, EMOTIONS),
        )
        for kind, code, allowed in known:
            if code not in allowed:
                raise ManifestError(f"has the {kind} {code}, which EMO-DB does not have")
        return {
            "speaker": speaker,
            "emotion": EMOTIONS[emotion],
            "gender": "female" if speaker in WOMEN else "male",
            "text": SENTENCES[sentence],
            "language": "de",
            "take": take,
        }

    return collect(root, NAME, row)
