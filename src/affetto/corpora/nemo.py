"""nEMO: nine actors, 90 Polish sentences, six acted emotions (Christop, LREC-COLING 2024).

A file is named ``SPEAKER_EMOTION_SENTENCE``, e.g. ``WR0_surprised_64``, as the README of the release says
(github.com/amu-cai/nEMO). Hugging Face holds the same in Parquet, which is not read here.
"""

import re
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect, decoded, matched, parts_of
from affetto.corpora.tabular import read_columns
from affetto.errors import ManifestError

ABOUT = About(
    name="nemo",
    title="nEMO, acted sentences",
    language="Polish",
    size="4,481 utterances, 3 h, 9 speakers",
    classes="anger fear happiness neutral sadness surprise",
    licence="CC BY-NC-SA 4.0",
    obtain="github.com/amu-cai/nEMO",
    layout="samples/WR0_surprised_64.wav\ndata.tsv",
)
EMOTIONS = {
    code: canonical(code) for code in ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
}
_FILE = re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d+)")
_COLUMNS = {"raw_text": "text", "gender": "gender", "age": "age"}


def scan(root: Path) -> Manifest:
    """Makes the manifest of nEMO.

    Args:
        root: the folder with ``samples``, and ``data.tsv`` for text, gender and age; without the table those
            columns are empty.

    Raises:
        ManifestError: when no recording is there, or the table is not what it should be.
    """
    listing = root / "data.tsv"
    table = _table(listing) if listing.is_file() else None
    notes = [f"{listing.name} is absent: text, gender and age stay empty"] if table is None else []
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any]:
        speaker, emotion, _ = parts_of(path, _FILE, "SPEAKER_EMOTION_SENTENCE")
        if table is not None and path.stem not in table:
            raise ManifestError("has no row in data.tsv")
        seen.add(path.stem)
        return {
            "speaker": speaker,
            "emotion": decoded("emotion", emotion, EMOTIONS),
            "language": "pl",
            **(table or {}).get(path.stem, {}),
        }

    samples = root / "samples"
    manifest = collect(root, ABOUT, row, samples if samples.is_dir() else None, notes)
    return matched(manifest, listing.name, table, seen) if table else manifest


def _table(path: Path) -> dict[str, dict[str, str | None]]:
    table = read_columns(path, ("file_id", *_COLUMNS), "\t")
    # The published table pads cells with blanks.
    cells = {name: table[name].str.strip() for name in ("file_id", *_COLUMNS)}
    rows = zip(*(cells[name] for name in _COLUMNS), strict=True)
    return {
        Path(file).stem: {name: cell or None for name, cell in zip(_COLUMNS.values(), row, strict=True)}
        for file, row in zip(cells["file_id"], rows, strict=True)
        if file
    }
