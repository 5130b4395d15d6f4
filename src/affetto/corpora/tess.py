"""TESS: two actresses, 200 English words in one phrase, seven acted emotions (Pichora-Fuller, Dupuis 2020).

The Toronto emotional speech set is published at doi.org/10.5683/SP2/E8H2MF. A file is named
``SPEAKER_WORD_EMOTION``, e.g. ``OAF_back_angry``; ``OAF`` is the older actress, ``YAF`` the younger.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of

NAME = "tess"
EMOTIONS = {code: canonical(code) for code in ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")}
AGES = {"OAF": 64, "YAF": 26}
_FILE = re.compile(r"([A-Z]{2,3})_([a-z]+)_([a-z]+)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of TESS.

    The file ``OA_bite_neutral`` of the release gets the key ``OAF_bite_neutral`` of its siblings. One
    published copy holds everything twice, in a folder inside itself; of each name the first is taken.

    Args:
        root: the folder with the recordings, flat or in folders such as ``OAF_angry``, at any depth.

    Raises:
        ManifestError: when no recording is there.
    """
    seen: set[str] = set()
    again: list[str] = []

    def row(path: Path) -> dict[str, Any] | None:
        speaker, word, emotion = parts_of(path, _FILE, "SPEAKER_WORD_EMOTION")
        if path.name in seen:
            again.append(path.name)
            return None
        seen.add(path.name)
        speaker = "OAF" if speaker == "OA" else speaker
        return {
            "key": f"{speaker}_{word}_{emotion}",
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": "female",
            "text": f"Say the word {word}.",
            "language": "en",
            "age": decoded("speaker", speaker, AGES),
        }

    manifest = collect(root, NAME, row)
    if not again:
        return manifest
    note = f"passed over {len(again)} recordings that lie there twice under one name"
    return replace(manifest, notes=(*manifest.notes, note))
