"""MSP-IMPROV: twelve actors in six sessions of two (Busso et al., IEEE TAC 2017).

A file is named by sentence and intended emotion, actor, kind of recording, and turn: ``S01A-F01-P-FM01``. The
labels are in one file of text, whose name the release spells ``Evalution.txt``.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import (
    collect,
    lines_of,
    matched,
    misfit,
    of_code,
    parts_of,
    read_about,
    text_of,
)
from affetto.errors import ManifestError

ABOUT = read_about(__file__)
EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "O": "other", "S": "sadness", "X": None}
STYLES = {"P": "natural", "R": "read", "S": "improvised", "T": "target"}
SCALES = {"A": "arousal", "V": "valence", "D": "dominance", "N": "naturalness"}
_VOTED = {word: canonical(word) for word in ("angry", "happy", "neutral", "other", "sad")}
_FILE = re.compile(r"MSP-IMPROV-S\d\d([AHNS])-([FM])(\d\d)-([PRST])-\w+")
_SCALE = re.compile(r"([AVDN])\s*:\s*([\d.]+)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of MSP-IMPROV.

    The emotion is the raters' consensus, empty where they do not agree; ``intended`` is what the scene was
    written for. ``style`` is read, target (the given sentence within an improvisation), improvised (the rest
    of it) or natural (between the takes). ``valence``, ``arousal``, ``dominance`` and ``naturalness`` are the
    raters' means on 1 to 5; ``votes_<emotion>`` counts the raters.
    """
    names = [f"{folder}{name}.txt" for name in ("Evalution", "Evaluation") for folder in ("", "*/")]
    tables = [path for name in names for path in sorted(root.glob(name))]
    if not tables:
        raise misfit(ABOUT, root, f"{root} has no Evalution.txt, which holds the labels")
    labels = _evaluation(tables[0])
    folders = sorted(root.rglob("All_human_transcriptions"))
    texts = {path.stem: path for folder in folders for path in folder.rglob("*.txt")}
    notes = [] if folders else ["All_human_transcriptions is absent: text stays empty"]
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any]:
        intended, gender, session, style = parts_of(path, _FILE, "like MSP-IMPROV-S01A-F01-P-FM01")
        seen.add(path.stem)
        columns = dict(labels.get(path.stem, {}))
        return {
            "speaker": gender + session,
            "emotion": of_code("emotion", columns.pop("emotion", "X"), EMOTIONS),
            "gender": "female" if gender == "F" else "male",
            "session": session,
            "text": text_of(texts.get(path.stem)),
            "language": "en",
            "intended": EMOTIONS[intended],
            "style": STYLES[style],
            **columns,
        }

    return matched(collect(root, ABOUT, row, notes=notes), tables[0].name, labels, seen)


def _evaluation(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a head line for each recording, named as the video is, then a line for each rater."""
    found: dict[str, dict[str, Any]] = {}
    raters: set[str] = set()
    columns: dict[str, Any] | None = None
    for line in lines_of(path):
        first, *cells = (cell.strip() for cell in line.split(";"))
        if first.endswith((".avi", ".wav")) and cells:
            scales = (_SCALE.fullmatch(cell) for cell in cells[1:])
            columns = {
                "emotion": cells[0],
                **{SCALES[scale[1]]: float(scale[2]) for scale in scales if scale},
                **{f"votes_{name}": 0 for name in _VOTED.values()},
            }
            found[re.sub("^UTD", "MSP", first[:-4])] = columns
            raters.clear()
        elif columns and len(cells) > 2 and first not in raters:  # some raters are there twice
            raters.add(first)
            columns[f"votes_{_VOTED.get(cells[0].lower(), 'other')}"] += 1
    if not found:
        message = "labels no recording; it should have lines like 'NAME.avi; N; A:3.0; ...'"
        raise ManifestError(f"{path} {message}")
    return found
