"""MELD: dialogues of the series Friends, seven emotions (Poria et al., ACL 2019).

An utterance is named by dialogue and turn, e.g. ``dia0_utt0``, counted from 0 in each split. The corpus comes
as video (``.mp4``): extract the sound to a format that is read here, under the same names and folders.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.reading import read_listing
from affetto.corpora.scanning import collect, matched, misfit, of_code, parts_of, read_about
from affetto.errors import ManifestError

ABOUT = read_about(__file__)
TABLES = {split: f"{split}_sent_emo.csv" for split in ("train", "dev", "test")}
_WORDS = "anger disgust fear joy neutral sadness surprise"
EMOTIONS = {word: canonical(word) for word in _WORDS.split()}
GENDERS = {
    **dict.fromkeys(("Monica", "Phoebe", "Rachel"), "female"),
    **dict.fromkeys(("Chandler", "Joey", "Ross"), "male"),
}
_FILE = re.compile(r"dia(\d+)_utt(\d+)")
# The tables hold quotation marks and dashes as the control characters that they were in Windows-1252.
_MARKS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_COLUMNS = ("Dialogue_ID", "Utterance_ID", "Speaker", "Emotion", "Utterance")


def scan(root: Path) -> Manifest:
    """Makes the manifest of MELD, whose recordings are in folders named train, dev or test, at any depth.

    The speaker is the character, whose gender stands for the six friends alone; the session is the dialogue.
    The few recordings that no table names become errors; clips that the test part holds a second time, as
    ``final_videos_test...``, are left out.
    """
    found = {split: sorted(root.rglob(name)) for split, name in TABLES.items()}
    tables = {split: paths[0] for split, paths in found.items() if paths}
    if not tables:
        raise misfit(ABOUT, root, f"{root} has none of {', '.join(TABLES.values())}, which hold the labels")
    absent = TABLES.keys() - tables.keys()
    notes = [f"{TABLES[split]} is absent: no labels for {split}" for split in TABLES if split in absent]
    lines: dict[str, tuple[str, ...]] = {}
    for split, path in tables.items():
        table = read_listing(path, _COLUMNS)
        for dialogue, turn, *line in zip(*(table[name].str.strip() for name in _COLUMNS), strict=True):
            lines[f"{split}_dia{dialogue}_utt{turn}"] = tuple(line)
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any] | None:
        if path.stem.startswith("final_videos_test"):
            return None
        split = _split(path.relative_to(root))
        dialogue, turn = parts_of(path, _FILE, "like dia0_utt0")
        key = f"{split}_dia{dialogue}_utt{turn}"
        columns = {"key": key, "session": f"{split}_dia{dialogue}", "language": "en", "split": split}
        if split not in tables:
            return columns
        if key not in lines:
            raise ManifestError(f"is not in {TABLES[split]}")
        seen.add(key)
        speaker, emotion, text = lines[key]
        return {
            **columns,
            "speaker": speaker or None,
            "emotion": of_code("emotion", emotion, EMOTIONS),
            "gender": GENDERS.get(speaker),
            "text": text.translate(_MARKS),
        }

    return matched(collect(root, ABOUT, row, notes=notes), "*_sent_emo.csv", lines, seen)


def _split(path: Path) -> str:
    """Returns the split that the innermost folder names, e.g. ``output_repeated_splits_test``."""
    for folder in reversed(path.parts[:-1]):
        for split in TABLES:
            if split in folder.lower():
                return split
    raise ManifestError("lies in no folder that says train, dev or test")
