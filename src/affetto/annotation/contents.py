"""What is said in each utterance, as a number: found in vectors of content, or read from a column."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.annotation.clusters import NONE
from affetto.annotation.spaces import content_groups
from affetto.corpora.arrays import read_vectors
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR, lacks
from affetto.errors import ManifestError


def contents(
    manifest: Manifest, column: str, speakers: NDArray[np.int64], seed: int = 0
) -> NDArray[np.int64]:
    """Returns a number for what is said in each utterance, ``(N,)``, -1 for unknown.

    Args:
        manifest: the utterances.
        column: vectors of content, in which groups are found, or values that come again, such as ``text``.
        speakers: speaker of each, ``(N,)``.
        seed: of what is drawn.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
    """
    there, vectors = _content(manifest, column)
    if vectors is None:
        return np.asarray(pd.factorize(manifest.table[column], sort=True)[0], np.int64)
    said = np.full(len(manifest), NONE)
    said[there] = content_groups(vectors, speakers[there], seed)
    return said


def content_bytes(manifest: Manifest, column: str) -> bytes:
    """Returns what :func:`contents` looks at, for a hash."""
    there, vectors = _content(manifest, column)
    values = "\n".join(manifest.table[column].astype(str)).encode() if vectors is None else vectors.tobytes()
    return there.tobytes() + values


def _content(manifest: Manifest, column: str) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
    """Returns where a column of content holds something, and its vectors; None for plain values."""
    if column not in manifest.table.columns:
        raise ManifestError(
            f"{lacks(column, manifest.table.columns)}; affetto annotate speakers --encoder ge2e-content "
            f"--name {column} makes such a column"
        )
    values = manifest.table[column]
    there = values.notna().to_numpy()
    vectors = any(VECTOR.fullmatch(str(value)) for value in values)
    return there, read_vectors(manifest.where(there), column) if vectors else None
