"""ESD: ten speakers of English and ten of Chinese, five acted emotions (Zhou et al., ICASSP 2021).

A file is named ``SPEAKER_NUMBER`` and lies in a folder of its emotion; ``ReadMe.txt`` of the corpus lists the
speakers' gender and language.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect, decoded, parts_of
from affetto.errors import ManifestError

ABOUT = About(
    name="esd",
    title="ESD (Emotional Speech Dataset), acted sentences",
    language="English, Chinese",
    size="35,000 utterances, 29 h, 20 speakers",
    classes="anger happiness neutral sadness surprise",
    licence="research, to be cited",
    obtain="github.com/HLTSingapore/Emotional-Speech-Data",
    layout="0001/Angry/train/0001_000371.wav (or 0001/Angry/0001_000371.wav)\n0001/0001.txt",
)
EMOTIONS = {word: canonical(word) for word in ("Angry", "Happy", "Neutral", "Sad", "Surprise")}
SPLITS = {"train": "train", "evaluation": "dev", "test": "test"}
CHINESE = 10
"""The last speaker of Chinese; the others speak English."""
FEMALE = frozenset((1, 2, 3, 7, 9, 15, 16, 17, 18, 19))
_FILE = re.compile(r"(\d{4})_\d{6}")


def scan(root: Path) -> Manifest:
    """Makes the manifest of ESD; ``split`` is the folder below the emotion, which some copies lack."""
    texts = dict(line for path in root.rglob("[0-9]" * 4 + ".txt") for line in _lines(path))
    notes = [] if texts else ["no transcript like 0001/0001.txt is there: text stays empty"]

    def row(path: Path) -> dict[str, Any]:
        (speaker,) = parts_of(path, _FILE, "SPEAKER_NUMBER")
        if not 1 <= int(speaker) <= 20:
            raise ManifestError(f"has the speaker {speaker}; ESD has 0001 to 0020")
        folder = path.parent.parent if path.parent.name in SPLITS else path.parent
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", folder.name, EMOTIONS),
            "gender": "female" if int(speaker) in FEMALE else "male",
            "text": texts.get(path.stem),
            "language": "zh" if int(speaker) <= CHINESE else "en",
            "split": SPLITS.get(path.parent.name),
        }

    return collect(root, ABOUT, row, notes=notes)


def _lines(path: Path) -> list[tuple[str, str]]:
    """Reads keys and texts of a transcript: lines of key, text and emotion between tabs."""
    cells = (line.split("\t") for line in _text(path).splitlines())
    return [(key.strip(), text.strip()) for key, text, *_ in (each for each in cells if len(each) > 1)]


def _text(path: Path) -> str:
    """Decodes a transcript: some are in UTF-16, some in UTF-8, some in the old code of their language."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030" if int(path.stem) <= CHINESE else "cp1252", "replace")
