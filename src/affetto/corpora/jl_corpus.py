"""JL-Corpus: four speakers of New Zealand English, ten acted emotions (James et al., Interspeech 2018).

A file is named by speaker, emotion, sentence with session letter, and take, e.g. ``female1_angry_10a_1``, as
``Format_Intro.txt`` of the corpus says; a file of text lies beside it.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, decoded, parts_of, text_of

NAME = "jl-corpus"
PRIMARY = ("angry", "excited", "happy", "neutral", "sad")
SECONDARY = ("anxious", "apologetic", "assertive", "concerned", "encouraging")
EMOTIONS = {word: canonical(word) for word in PRIMARY + SECONDARY}
_FILE = re.compile(r"((female|male)[12])_([a-z]+)_(\d+)([ab])_(\d)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of JL-Corpus; ``take`` is the repetition within a session, e.g. ``female1a``.

    Args:
        root: the folder with ``Raw JL corpus (unchecked and unannotated)``; the download holds a part of it
            twice, and the second copy is passed over. Any other folder is searched at every depth.

    Raises:
        ManifestError: when no recording is there.
    """
    notes: list[str] = []

    def row(path: Path) -> dict[str, Any]:
        speaker, gender, emotion, _, session, take = parts_of(path, _FILE, "like female1_angry_10a_1")
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "gender": gender,
            "session": speaker + session,
            "text": text_of(path.with_suffix(".txt")),
            "language": "en",
            "take": take,
        }

    folder = root / "Raw JL corpus (unchecked and unannotated)" / "JL(wav+txt)"
    if not folder.is_dir():
        notes.append(f"{folder.relative_to(root)} is absent: every folder was searched")
    return collect(root, NAME, row, folder if folder.is_dir() else None, notes)
