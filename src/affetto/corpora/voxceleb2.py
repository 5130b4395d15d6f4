"""VoxCeleb2: 6,112 celebrities in interviews on video (Chung, Nagrani, Zisserman, Interspeech 2018).

Its recordings come as ``.m4a``, which cannot be read here: convert them to wav or flac first, each in its
folder.
"""

from pathlib import Path

from affetto.corpora.manifest import Manifest
from affetto.corpora.voxceleb import scan_voices

NAME = "voxceleb2"


def scan(root: Path) -> Manifest:
    """Makes the manifest of VoxCeleb2; the session is the video, and no emotion is labelled.

    ``split`` is that of speaker verification: the corpus trains on ``dev`` and tests on ``test``.

    Args:
        root: the folder with ``wav/id00012/VIDEO/00001.wav`` (or ``aac`` or ``dev/aac``, converted), at any
            depth, and ``vox2_meta.csv`` for gender and split; without the table those columns are empty.

    Raises:
        ManifestError: when no recording is there, only ``.m4a`` is, or the table lacks a column.
    """
    return scan_voices(root, NAME, r"id0\d{4}", "vox2_meta.csv", "VoxCeleb2 ID")
