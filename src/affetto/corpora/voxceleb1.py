"""VoxCeleb1: 1,251 celebrities in interviews on video (Nagrani, Chung, Zisserman, Interspeech 2017)."""

from pathlib import Path

from affetto.corpora.manifest import Manifest
from affetto.corpora.voxceleb import scan_voices

NAME = "voxceleb1"


def scan(root: Path) -> Manifest:
    """Makes the manifest of VoxCeleb1; the session is the video, and no emotion is labelled.

    ``split`` is that of speaker verification: the corpus trains on ``dev`` and tests on ``test``.

    Args:
        root: the folder with ``wav/id10001/VIDEO/00001.wav``, at any depth, and ``vox1_meta.csv`` for gender
            and split; without the table those columns are empty.

    Raises:
        ManifestError: when no recording is there, or the table lacks a column.
    """
    return scan_voices(root, NAME, r"id1\d{4}", "vox1_meta.csv", "VoxCeleb1 ID")
