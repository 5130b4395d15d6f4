"""Clusters of each speaker's utterances: vectors in, cluster and confidence of each utterance out."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from affetto.config import Settings
from affetto.data import NONE
from affetto.vectors.kmeans import spherical_kmeans
from affetto.vectors.spaces import centred, members, with_middle, without

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]


class ClusterSettings(Settings):
    """How the utterances of each speaker are clustered."""

    method: Literal["k-means"] = "k-means"  # spherical: by the direction of vectors
    count: int = Field(6, ge=2)  # clusters of a speaker
    centre: bool = True  # subtract each speaker's mean first
    middle: float = Field(0.5, ge=0)  # weight of the distance from that mean: see spaces.with_middle
    fewest: int = Field(12, ge=2)  # a speaker with fewer utterances gets no cluster
    restarts: int = Field(10, ge=1)  # the tightest clusters of so many random starts are kept
    iterations: int = Field(300, ge=1)  # most steps of one start
    seed: int = Field(0, ge=0)


class Clusters(NamedTuple):
    """Cluster of each utterance, ``(N,)``, numbered within the speaker by first utterance; -1 for none.

    Confidence is the silhouette by cosine distance, scaled to 0 to 1: 0.5 at the edge between two clusters, 1
    far inside; 0 without a cluster.
    """

    labels: Codes
    confidence: NDArray[np.float32]


def cluster(
    vectors: Vectors,
    speakers: Codes,
    settings: ClusterSettings,
    contents: Codes | None = None,
    device: str = "cpu",
) -> Clusters:
    """Clusters the utterances of each speaker.

    Args:
        vectors: one an utterance, ``(N, D)``; one that is not finite gets no cluster.
        speakers: speaker of each, ``(N,)``.
        settings: how.
        contents: number of the words in each, ``(N,)``, -1 for unknown, whose effect across speakers is then
            taken out (:func:`~affetto.vectors.spaces.without`).
        device: where k-means runs, e.g. ``cpu`` or ``cuda``.
    """
    groups = np.where(np.isfinite(vectors).all(1), speakers, NONE)
    sizes = np.bincount(groups[groups >= 0], minlength=int(speakers.max(initial=0)) + 1)
    groups[sizes[speakers] < settings.fewest] = NONE
    if settings.centre:
        vectors = centred(vectors, groups)
        if contents is not None:
            vectors = without(vectors, groups, np.where(groups >= 0, contents, NONE))
        vectors = with_middle(vectors, settings.middle, groups >= 0)
    labels, silhouettes = spherical_kmeans(
        vectors,
        groups,
        [settings.count],
        restarts=settings.restarts,
        iterations=settings.iterations,
        seed=settings.seed,
        device=device,
    )
    confidence = np.where(labels >= 0, (1 + silhouettes) / 2, 0).astype(np.float32)
    for rows in members(np.where(labels >= 0, groups, NONE)):
        labels[rows] = _by_first(labels[rows])
    return Clusters(labels, confidence)


def _by_first(labels: Codes) -> Codes:
    """Renumbers labels in the order of their first appearance."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[numbers], np.int64)
