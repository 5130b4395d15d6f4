"""From a folder of speech to a manifest: one file a corpus, and ``table`` for everything else.

A corpus is a YAML file in ``coded/``, or a module with an :class:`About` as ``ABOUT`` and a function
``scan``. The list of corpora, the errors and the page about them follow from these files.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from affetto.corpora.arrays import marks_of, read_vectors
from affetto.corpora.coded import read_coded
from affetto.corpora.curves import read_curves
from affetto.corpora.labels import Marks
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, Corpus, dividing
from affetto.errors import ManifestError, unknown

__all__ = [
    "About",
    "Corpus",
    "Manifest",
    "Marks",
    "dividing",
    "known_corpora",
    "marks_of",
    "read_curves",
    "read_vectors",
    "scan",
]


@cache
def known_corpora() -> dict[str, Corpus]:
    """Returns what :func:`scan` reads, by name: labelled corpora, unlabelled ones, ``toy`` and ``table``."""
    modules = [import_module(each.name) for each in iter_modules(__path__, f"{__name__}.")]
    found = [Corpus(module.ABOUT, module.scan) for module in modules if hasattr(module, "ABOUT")]
    found += [read_coded(file) for folder in __path__ for file in Path(folder, "coded").glob("*.yaml")]
    found.sort(key=lambda corpus: (not corpus.about.licence, not corpus.about.classes, corpus.about.name))
    return {corpus.about.name: corpus for corpus in found}


def scan(corpus: str, root: str | Path, **options: Any) -> Manifest:
    """Makes the manifest of a corpus from the layout that it comes in.

    Args:
        corpus: a name of :func:`known_corpora`.
        root: the folder of the corpus, or the file for ``table``.
        options: further arguments of that corpus's ``scan``, e.g. ``columns`` and ``pattern`` for ``table``.

    Raises:
        ManifestError: for an unknown corpus, a folder that is absent, or one without a recording.
    """
    known = known_corpora()
    if corpus not in known:
        raise ManifestError(unknown("corpus", corpus, known))
    root = Path(root)
    if corpus != "toy" and not root.exists():
        raise ManifestError(f"{root} does not exist; name the folder that holds {corpus}")
    return known[corpus].scan(root, **options)
