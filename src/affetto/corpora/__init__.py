"""From a folder of speech to a manifest: one file a corpus, and ``table`` for everything else."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affetto.corpora.catalogue import CATALOGUE
from affetto.errors import ManifestError, unknown

if TYPE_CHECKING:
    from affetto.corpora.manifest import Manifest

CORPORA = {
    **{name: f"{about.title}: {about.language}, {about.size}" for name, about in CATALOGUE.items()},
    "table": "your own: a CSV, TSV, JSONL, audformat or Hugging Face table, or a folder with a pattern",
    "toy": "synthetic speech-like corpus, made on the spot where the folder holds none",
}
"""What ``scan`` can read, with a line about each."""


def scan(corpus: str, root: str | Path, **options: Any) -> "Manifest":
    """Makes the manifest of a corpus from the layout that it comes in.

    Args:
        corpus: a name of :data:`CORPORA`.
        root: the folder of the corpus, or the file for ``table``.
        options: what ``scan`` of that corpus takes besides, e.g. ``columns`` and ``pattern`` for ``table``.

    Raises:
        ManifestError: for an unknown corpus, a folder that is absent, or one without a recording.
    """
    if corpus not in CORPORA:
        raise ManifestError(unknown("corpus", corpus, CORPORA))
    root = Path(root)
    if corpus != "toy" and not root.exists():
        raise ManifestError(f"{root} does not exist; name the folder that holds {corpus}")
    manifest: Manifest = import_module(f"affetto.corpora.{corpus.replace('-', '_')}").scan(root, **options)
    return manifest
