"""The words of each utterance, as a number: groups of content vectors, or the values of a column."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.corpora.arrays import read_vectors
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR, lacks
from affetto.data import NONE
from affetto.errors import ManifestError
from affetto.vectors.spaces import content_groups


class Contents:
    """A column of content, read once: content vectors, or values that recur, such as ``text``.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
    """

    def __init__(self, manifest: Manifest, column: str) -> None:
        if column not in manifest.table.columns:
            raise ManifestError(
                f"{lacks(column, manifest.table.columns)}; affetto annotate speakers --encoder ge2e-content "
                f"--name {column} makes such a column"
            )
        self.values = manifest.table[column]
        self.known = self.values.notna().to_numpy()
        self.vectors: NDArray[np.float32] | None = None
        if any(VECTOR.fullmatch(str(value)) for value in self.values):
            self.vectors = read_vectors(manifest.where(self.known), column)

    def numbers(
        self, speakers: NDArray[np.int64], rows: NDArray[np.int64] | None = None, seed: int = 0
    ) -> NDArray[np.int64]:
        """Returns a number for the words of some rows, or all, ``(M,)``, -1 for unknown.

        Groups of vectors are found in these rows alone; ``speakers (M,)`` are theirs.
        """
        rows = np.arange(len(self.values)) if rows is None else rows
        if self.vectors is None:
            return np.asarray(pd.factorize(self.values.iloc[rows], sort=True)[0], np.int64)
        numbers, known = np.full(len(rows), NONE), self.known[rows]
        places = np.cumsum(self.known) - 1
        numbers[known] = content_groups(self.vectors[places[rows[known]]], speakers[known], seed)
        return numbers

    def bytes(self) -> bytes:
        """Returns the content of the column, for a hash."""
        if self.vectors is None:
            return "\n".join(self.values.astype(str)).encode()
        return self.known.tobytes() + self.vectors.tobytes()
