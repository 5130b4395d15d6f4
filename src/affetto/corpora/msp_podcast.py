"""MSP-Podcast: sentences cut from podcasts, labelled by a crowd (Lotfian and Busso, IEEE TAC 2019).

A file is named by podcast and sentence, e.g. ``MSP-PODCAST_0001_0008``; ``readme.txt`` of the corpus
documents the tables.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.reading import read_listing
from affetto.corpora.scanning import collect, matched, misfit, of_code, parts_of, read_about, text_of
from affetto.errors import ManifestError

ABOUT = read_about(__file__)
EMOTIONS = {
    **{"A": "anger", "C": "contempt", "D": "disgust", "F": "fear", "H": "happiness"},
    **{"N": "neutral", "O": "other", "S": "sadness", "U": "surprise", "X": None},
}
SPLITS = {
    **{"Train": "train", "Development": "dev", "Validation": "dev"},
    **{"Test1": "test1", "Test2": "test2", "Test3": "test3"},
}
GENDERS = {"Female": "female", "Male": "male"}
_WORDS = "angry contempt disgust fear happy neutral sad surprise"
_VOTED = {word: canonical(word) for word in _WORDS.split()}
_VOTES = [f"votes_{name}" for name in sorted((*_VOTED.values(), "other"))]
_FILE = re.compile(r"MSP-PODCAST_(\d+|test3)(?:_\d+)+")
_SCALES = ("EmoAct", "EmoVal", "EmoDom")


def scan(root: Path) -> Manifest:
    """Makes the manifest of MSP-Podcast, of any release.

    The emotion is the consensus, empty where the raters do not agree. ``arousal``, ``valence`` and
    ``dominance`` are the raters' means on 1 to 7; ``votes_<emotion>`` counts their primary emotions, words of
    their own as other. The session is the podcast. ``split`` is train, dev, test1, test2 or test3; the last,
    which is published without labels and speakers, is kept. Some sentences have no known speaker.
    """
    tables = [root / "Labels" / name for name in ("labels_consensus.csv", "labels_concensus.csv")]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        raise misfit(ABOUT, root, f"{tables[0]} is absent, which holds the labels")
    labels = _consensus(table)
    notes: list[str] = []
    votes = _votes(root / "Labels" / "labels_detailed.csv", notes)
    texts = {path.stem: path for path in (root / "Transcripts").rglob("*.txt")}
    if not texts:
        notes.append("Transcripts is absent or empty: text stays empty")
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any]:
        (podcast,) = parts_of(path, _FILE, "like MSP-PODCAST_0001_0008")
        columns: dict[str, Any] = {"text": text_of(texts.get(path.stem)), "language": "en"}
        if podcast == "test3":
            columns["split"] = "test3"
        else:
            columns["session"] = podcast
            seen.add(path.stem)
        if path.stem in labels:
            emotion, speaker, gender, split, *scales = labels[path.stem]
            columns |= {
                "speaker": None if speaker in ("Unknown", "") else speaker,
                "emotion": of_code("emotion", emotion, EMOTIONS),
                "gender": GENDERS.get(gender),
                "split": of_code("split", split, SPLITS),
                **dict(zip(("arousal", "valence", "dominance"), scales, strict=True)),
            }
        return columns | votes.get(path.stem, {})

    folder = root / "Audios"
    manifest = collect(root, ABOUT, row, folder if folder.is_dir() else None, notes)
    return matched(manifest, table.name, [key for key in labels if "_test3_" not in key], seen)


def _consensus(path: Path) -> dict[str, tuple[Any, ...]]:
    names = ("EmoClass", "SpkrID", "Gender", "Split_Set")
    table = read_listing(path, ("FileName", *names, *_SCALES))
    texts = (table[name].str.strip() for name in names)
    numbers = (pd.to_numeric(table[name], errors="coerce") for name in _SCALES)
    return dict(zip(_stems(table), zip(*texts, *numbers, strict=True), strict=True))


def _votes(path: Path, notes: list[str]) -> dict[str, dict[str, int]]:
    """Counts the primary emotions of ``labels_detailed.csv``, a row a rater.

    Some releases give them a column; in others a row is ``FileName,"WORKER; Neutral; Neutral; A:3.0; ..."``.
    """
    if not path.is_file():
        notes.append(f"{path.parent.name}/{path.name} is absent: there are no votes")
        return {}
    table = read_listing(path, ("FileName",))
    if "EmoClass_Major" in table.columns:
        cells = table["EmoClass_Major"]
    elif table.shape[1] == 2:
        cells = table.iloc[:, 1].str.split(";").str[1].fillna("")
    else:
        raise ManifestError(f"{path} lacks the columns EmoClass_Major")
    words = {word: f"votes_{_VOTED.get(word.strip().lower(), 'other')}" for word in cells.unique()}
    counts = pd.crosstab(_stems(table), cells.map(words)).reindex(columns=_VOTES, fill_value=0)
    rows: list[Any] = counts.to_dict("records")
    return dict(zip(map(str, counts.index), rows, strict=True))


def _stems(table: pd.DataFrame) -> "pd.Series[str]":
    return table["FileName"].str.strip().str.removesuffix(".wav")
