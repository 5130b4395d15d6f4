"""Vectors without speaker and words, for clustering; and the words of each utterance, as a number."""

from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.corpora.arrays import read_vectors
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR, lacks
from affetto.data import NONE
from affetto.errors import ManifestError
from affetto.vectors.kmeans import Rows, spherical_kmeans

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
Float = TypeVar("Float", np.float32, np.float64)

_CONTENT_COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
_CONTENT_DIMS, _CONTENT_MOST = 50, 20_000  # dimensions and utterances that content groups are fitted on


def centred(vectors: NDArray[Float], groups: Codes) -> NDArray[Float]:
    """Returns vectors ``(N, D)`` minus the mean of their group ``(N,)``; those of group -1 unchanged."""
    found = vectors.copy()
    for rows in members(groups):
        found[rows] -= vectors[rows].mean(0, dtype=np.float64).astype(vectors.dtype)
    return found


def without(vectors: Vectors, groups: Codes, kinds: Codes) -> Vectors:
    """Subtracts from speaker-centred vectors what utterances of one kind, e.g. sentence, have in common.

    The effect of a kind is the mean of its vectors across speakers, shrunk towards 0 by as much as the
    variance within kinds against that between them says (empirical Bayes); a kind that comes once has none.
    Groups are the speakers, ``(N,)``; kinds are numbers, ``(N,)``, -1 for unknown, which stays as it is.
    """
    means = [(rows, vectors[rows].mean(0, dtype=np.float64)) for rows in members(kinds)]
    count = sum(len(rows) for rows, _ in means)
    explained = sum(len(rows) * float(mean @ mean) for rows, mean in means)
    total = float(np.square(vectors[kinds >= 0], dtype=np.float64).sum())
    within = (total - explained) / max(count - len(means), 1)
    between = (explained - len(means) * within) / max(count, 1)
    found = vectors.copy()
    if between > 0 and count > len(means):
        for rows, mean in means:
            found[rows] -= (mean / (1 + within / (between * len(rows)))).astype(np.float32)
    return centred(found, groups)


def directions(
    vectors: Vectors, groups: Codes, kinds: Codes | None, dims: int, whiten: float = 0.0
) -> NDArray[np.float64]:
    """Returns speaker-centred vectors ``(N, D)`` in their principal directions, ``(N, dims)`` or fewer.

    Every dimension is brought to the same spread, and where there are ``kinds`` what they share is taken out
    (:func:`without`). ``whiten`` says how far the spreads of the directions are made equal, 0 to 1.
    """
    values = vectors / vectors.std(0).clip(1e-9)
    values = values if kinds is None else without(values, groups, kinds)
    _, spreads, axes = np.linalg.svd(values.astype(np.float64), full_matrices=False)
    kept = slice(0, dims)
    return np.asarray(values @ axes[kept].T / spreads[kept].clip(1e-9) ** whiten)


class BySpeaker:
    """Vectors ``(N, D)`` minus the mean of their group ``(N,)``, and a dimension that is the same for all.

    Spherical clusters use directions only, so that utterances near their speaker's mean, the calm ones, would
    be spread over all clusters. With this dimension, ``weight`` times the spread of the vectors, they share a
    direction. Rows are computed when asked for, so that few vectors are in memory; of each group, all rows or
    none are asked for.
    """

    def __init__(self, vectors: Rows, groups: Codes, weight: float) -> None:
        self.vectors, self.groups, self.middle = vectors, groups, 0.0
        self.shape = (len(vectors), vectors.shape[1] + 1)
        squares = [np.square(self[rows], dtype=np.float64).sum() for rows in members(groups)]
        known = np.count_nonzero(groups >= 0)
        self.middle = weight * (float(np.sqrt(sum(squares) / max(known, 1))) or 1.0)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Codes) -> Vectors:
        own = centred(self.vectors[rows], self.groups[rows])
        return np.column_stack([own, np.full(len(rows), self.middle, np.float32)])


def content_groups(courses: Vectors, groups: Codes, seed: int = 0) -> Codes:
    """Groups utterances of the same words across speakers, ``(N,)``; silhouettes decide how many groups.

    From their content embeddings, of the encoder ``ge2e-content``, ``(N, D)``, and their speakers, ``(N,)``.
    """
    values = centred(courses, groups)
    values /= values.std(0).clip(1e-9)
    fitted = np.sort(np.random.default_rng(seed).permutation(len(values))[:_CONTENT_MOST])
    spreads, axes = np.linalg.eigh(np.cov(values[fitted], rowvar=False, bias=True))
    kept = slice(None, -1 - min(_CONTENT_DIMS, len(spreads)), -1)
    # Half-way to whitening: sounds that vary less count more, noise does not count as much as they do.
    values = values @ (axes[:, kept] / spreads[kept].clip(1e-9) ** 0.25).astype(np.float32)
    found = spherical_kmeans(values[fitted], np.zeros_like(fitted), _CONTENT_COUNTS, restarts=4, seed=seed)
    centres = np.stack(
        [values[fitted][found.labels == number].sum(0) for number in range(found.labels.max() + 1)]
    )
    centres /= np.linalg.norm(centres, axis=1, keepdims=True).clip(1e-9)
    return np.asarray((values @ centres.T).argmax(1), np.int64)


def members(groups: Codes) -> list[Codes]:
    """Returns the rows of each group, in order; -1 is no group."""
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(rows)]


class Contents:
    """A column of content, read once: content vectors, or values that recur, such as ``text``."""

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
