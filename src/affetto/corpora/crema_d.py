"""CREMA-D: 91 actors, 12 English sentences, six acted emotions (Cao et al., IEEE TAC 2014).

A file is named ``ACTOR_SENTENCE_EMOTION_LEVEL``. The emotion is the intended one; the votes of raters on the
voice alone stand in ``votes_<emotion>``.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect, decoded, parts_of, side_table
from affetto.corpora.tabular import read_columns

ABOUT = About(
    name="crema-d",
    title="CREMA-D, acted sentences",
    language="English",
    size="7,442 utterances, 5.3 h, 91 speakers",
    classes="anger disgust fear happiness neutral sadness",
    licence="Open Database License 1.0",
    obtain="github.com/CheyneyComputerScience/CREMA-D (Git LFS)",
    layout="AudioWAV/1001_DFA_ANG_XX.wav\nVideoDemographics.csv\nprocessedResults/tabulatedVotes.csv",
)
SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS = {code: canonical(code) for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None}
_FILE = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")
_LETTERS = {code[0]: name for code, name in EMOTIONS.items()}


def scan(root: Path) -> Manifest:
    """Makes the manifest of CREMA-D; gender, age and votes come from its tables.

    Nothing is left out, the silent clip ``1076_MTI_SAD_XX`` included. A file that one published copy calls
    ``1040_ITH_SAD_X`` gets the key ``1040_ITH_SAD_XX`` of the others.
    """
    notes: list[str] = []
    columns = {"gender": "Sex", "age": "Age"}
    actors = side_table(root / "VideoDemographics.csv", "ActorID", columns, notes) or {}
    votes = _votes(root / "processedResults" / "tabulatedVotes.csv", notes)

    def row(path: Path) -> dict[str, Any]:
        actor, sentence, emotion, level = parts_of(path, _FILE, "ACTOR_SENTENCE_EMOTION_LEVEL")
        key = f"{actor}_{sentence}_{emotion}_{'XX' if level == 'X' else level}"
        return {
            "key": key,
            "speaker": actor,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "text": decoded("sentence", sentence, SENTENCES),
            "language": "en",
            "intensity_level": decoded("level", level, LEVELS),
            **actors.get(actor, {}),
            **votes.get(key, {}),
        }

    folder = root / "AudioWAV"
    return collect(root, ABOUT, row, folder if folder.is_dir() else None, notes)


def _votes(path: Path, notes: list[str]) -> dict[str, dict[str, int]]:
    """Reads the votes on the voice alone: rows whose number begins with 1 (2 is the face, 3 is both)."""
    if not path.is_file():
        notes.append(f"{path.parent.name}/{path.name} is absent: there are no votes")
        return {}
    table = read_columns(path, ("fileName", *_LETTERS))
    table = table[table.iloc[:, 0].str.startswith("1")]
    counts = table[list(_LETTERS)].astype(int).to_numpy()
    return {
        re.sub("_X$", "_XX", key): {
            f"votes_{name}": int(n) for name, n in zip(_LETTERS.values(), row, strict=True)
        }
        for key, row in zip(table["fileName"], counts, strict=True)
    }
