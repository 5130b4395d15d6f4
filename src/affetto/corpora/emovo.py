"""EMOVO: six actors, 14 Italian sentences, seven acted emotions (Costantini et al., LREC 2014).

A file is named ``emotion-speaker-sentence``, e.g. ``dis-f1-b1``. Sentences ``n1`` to ``n5`` make no sense on
purpose.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "emovo"
EMOTIONS = {
    "dis": "disgust",
    "gio": "happiness",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
GENDERS = {**dict.fromkeys(("f1", "f2", "f3"), "female"), **dict.fromkeys(("m1", "m2", "m3"), "male")}
SENTENCES = {
    "b1": "Gli operai si alzano presto.",
    "b2": "I vigili sono muniti di pistola.",
    "b3": "La cascata fa molto rumore.",
    "d1": "Sabato sera cosa farà?",
    "d2": "Porti con te quella cosa?",
    "l1": "L'autunno prossimo Tony partirà per la Spagna nella prima metà di ottobre.",
    "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
    "l3": "Un attimo dopo s'è incamminato ed è inciampato.",
    "l4": "Vorrei il numero telefonico del Signor Piatti.",
    "n1": "La casa forte vuole col pane.",
    "n2": "La forza trova il passo e l'aglio rosso.",
    "n3": "Il gatto sta scorrendo nella pera.",
    "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
    "n5": "Uno quarantatré dieci mille cinquantasette venti.",
}
_FILE = re.compile(r"([a-z]{3})-([a-z]\d)-([a-z]\d)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of EMOVO.

    Args:
        root: the folder with ``f1`` to ``f3`` and ``m1`` to ``m3``, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """

    def row(path: Path) -> dict[str, Any]:
        emotion, speaker, sentence = parts_of(path, _FILE, "emotion-speaker-sentence")
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": decoded("speaker", speaker, GENDERS),
            "text": decoded("sentence", sentence, SENTENCES),
            "language": "it",
        }

    return collect(root, NAME, row)
