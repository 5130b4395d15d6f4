"""VoxCeleb1 and VoxCeleb2: celebrities in interviews on video, a folder a speaker, in it one a video.

Nagrani, Chung, Zisserman, Interspeech 2017, and Chung, Nagrani, Zisserman, Interspeech 2018. The recordings
of VoxCeleb2 come as ``.m4a``, which is not read here.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, Corpus, collect, misfit, side_table
from affetto.errors import ManifestError

_FIRST = About(
    name="voxceleb1",
    title="VoxCeleb1, interviews of celebrities",
    language="many, mostly English",
    size="153,516 utterances, 352 h, 1,251 speakers",
    licence="CC BY 4.0; the videos' copyright stays with their owners",
    obtain="robots.ox.ac.uk/~vgg/data/voxceleb, by form",
    layout="vox1_meta.csv\nwav/id10001/1zcIwhmdeo4/00001.wav",
)
_SECOND = _FIRST._replace(
    name="voxceleb2",
    title="VoxCeleb2, interviews of celebrities",
    language="many",
    size="1,128,246 utterances, 2,442 h, 6,112 speakers",
    obtain="robots.ox.ac.uk/~vgg/data/voxceleb, by form; it is m4a, so convert it to wav or flac",
    layout="vox2_meta.csv\nwav/id00012/21Uxsk56VDQ/00001.wav",
)


def _scan(root: Path, about: About, identity: str, table: str, column: str) -> Manifest:
    """Makes the manifest of one VoxCeleb; the session is the video, and no emotion is labelled.

    ``split`` is that of speaker verification: the corpus trains on ``dev`` and tests on ``test``.
    ``identity`` is the pattern of its speakers' ids, ``column`` holds them in the table of gender and split.
    """
    notes: list[str] = []
    columns = {"gender": "Gender", "split": "Set"}
    speakers = side_table(root / table, column, columns, notes) or {}
    place = re.compile(rf"({identity})/([^/]+)/(\d+)")

    def row(path: Path) -> dict[str, Any]:
        found = place.fullmatch("/".join([*path.parts[-3:-1], path.stem]))
        if found is None:
            raise ManifestError(f"does not lie as SPEAKER/VIDEO/NUMBER, with a speaker {identity}")
        speaker, video, number = found.groups()
        known = speakers.get(speaker, {})
        return {"key": f"{speaker}_{video}_{number}", "speaker": speaker, "session": video, **known}

    try:
        return collect(root, about, row, notes=notes)
    except ManifestError as error:
        if not any(root.rglob("*.m4a")):
            raise
        message = f"{root} holds .m4a, which cannot be read; convert it to wav or flac in the same folders"
        raise misfit(about, root, message) from error


def _corpus(about: About, *facts: str) -> Corpus:
    identity, table, column = facts
    return Corpus(about, partial(_scan, about=about, identity=identity, table=table, column=column))


CORPORA = (
    _corpus(_FIRST, r"id1\d{4}", "vox1_meta.csv", "VoxCeleb1 ID"),
    _corpus(_SECOND, r"id0\d{4}", "vox2_meta.csv", "VoxCeleb2 ID"),
)
