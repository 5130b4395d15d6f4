"""Clusters within speakers, by several methods: vectors in, cluster and confidence of each utterance out."""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from affetto.annotation.kmeans import cosine_silhouettes, spherical_kmeans
from affetto.annotation.spaces import centred, members, with_middle, without
from affetto.config import Settings

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]

NONE = -1
"""The label of an utterance without a cluster."""

_MIXTURE_DIMS = 10  # a speaker has too few utterances for a mixture in all dimensions


class ClusterSettings(Settings):
    """How utterances are put into clusters.

    Attributes:
        method: spherical k-means, all speakers at once; or one of scikit-learn's, speaker by speaker: Ward's
            tree, a Gaussian mixture with diagonal covariances in the speaker's first principal directions, or
            HDBSCAN, which finds the number of clusters and leaves out what lies between them. All of them
            take vectors by their direction.
        counts: numbers of clusters; of several, each speaker takes the one of largest mean silhouette.
        centre: take each speaker's mean away first.
        middle: how much the distance from that mean counts beside the direction; see
            :func:`~affetto.annotation.spaces.with_middle`.
        together: one set of clusters for all speakers, whose numbers then mean the same everywhere; k-means.
        fewest: a speaker with fewer utterances gets no cluster.
        drop: share of each speaker's utterances, the least certain ones, that get no cluster.
        smallest: fewest utterances of a cluster of HDBSCAN.
        restarts: how often k-means and mixtures begin anew.
        iterations: most steps of one restart.
        seed: of what is drawn.
    """

    method: Literal["k-means", "agglomerative", "gaussian-mixture", "hdbscan"] = "k-means"
    counts: tuple[int, ...] = Field((6,), min_length=1)
    centre: bool = True
    middle: float = Field(0.5, ge=0)
    together: bool = False
    fewest: int = Field(12, ge=2)
    drop: float = Field(0.0, ge=0, lt=1)
    smallest: int = Field(5, ge=2)
    restarts: int = Field(10, ge=1)
    iterations: int = Field(300, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> "ClusterSettings":
        if min(self.counts) < 2:
            raise ValueError("counts: at least 2 clusters")
        if self.together and self.method != "k-means":
            raise ValueError(f"together: only k-means clusters all speakers at once, not {self.method}")
        return self


class Clusters(NamedTuple):
    """What was found.

    Attributes:
        labels: cluster of each utterance, ``(N,)``; -1 for none.
        confidence: how much nearer its own cluster is than the next, ``(N,)``: 0.5 is the edge between two,
            1 far inside. It is the silhouette by cosine distance, brought into 0 to 1; 0 without a cluster.
    """

    labels: Codes
    confidence: NDArray[np.float32]


def cluster(
    vectors: Vectors,
    speakers: Codes,
    settings: ClusterSettings,
    said: Codes | None = None,
    device: str = "cpu",
) -> Clusters:
    """Clusters the utterances of each speaker.

    Clusters are numbered by their first utterance, within the speaker or, ``together``, over all.

    Args:
        vectors: one an utterance, ``(N, D)``; one that is not finite gets no cluster.
        speakers: speaker of each, ``(N,)``.
        settings: how.
        said: what is said in each, as a number, ``(N,)``; -1 for unknown. What utterances of the same have in
            common across speakers is taken out. :func:`~affetto.annotation.spaces.content_groups` finds it.
        device: where k-means runs, e.g. ``cpu`` or ``cuda``.
    """
    groups = np.where(np.isfinite(vectors).all(1), speakers, NONE)
    sizes = np.bincount(groups[groups >= 0], minlength=int(speakers.max(initial=0)) + 1)
    groups[sizes[speakers] < settings.fewest] = NONE
    if settings.centre:
        vectors = centred(vectors, groups)
        if said is not None:
            vectors = without(vectors, groups, np.where(groups >= 0, said, NONE))
        vectors = with_middle(vectors, settings.middle, groups >= 0)
    pools = np.where(groups >= 0, 0, NONE) if settings.together else groups
    if settings.method == "k-means":
        how = {"restarts": settings.restarts, "iterations": settings.iterations, "seed": settings.seed}
        labels, silhouettes = spherical_kmeans(vectors, pools, settings.counts, **how, device=device)
    else:
        labels, silhouettes = _one_by_one(vectors, groups, settings)
    confidence = np.where(labels >= 0, (1 + silhouettes) / 2, 0).astype(np.float32)
    if settings.drop:
        for rows in members(np.where(labels >= 0, groups, NONE)):
            order = rows[np.argsort(confidence[rows], kind="stable")]
            labels[order[: int(settings.drop * len(rows))]] = NONE
        confidence[labels < 0] = 0
    for rows in members(np.where(labels >= 0, pools, NONE)):
        labels[rows] = _by_first(labels[rows])
    return Clusters(labels, confidence)


def _one_by_one(
    vectors: Vectors, groups: Codes, settings: ClusterSettings
) -> tuple[Codes, NDArray[np.float32]]:
    labels = np.full(len(groups), NONE, np.int64)
    silhouettes = np.zeros(len(groups), np.float32)
    counts = settings.counts if settings.method != "hdbscan" else (0,)
    for rows in members(groups):
        own = vectors[rows].astype(np.float64)
        own /= np.linalg.norm(own, axis=1, keepdims=True).clip(1e-9)
        one = np.zeros(len(rows), np.int64)
        best = -2.0
        for count in sorted(count for count in counts if count < len(rows)):
            found = one if np.ptp(own, 0).max() < 1e-6 else _METHODS[settings.method](own, count, settings)
            widths = cosine_silhouettes(own.astype(np.float32), one, found)
            if widths.mean() > best:
                best, labels[rows], silhouettes[rows] = float(widths.mean()), found, widths
    return labels, silhouettes


def _agglomerative(own: NDArray[np.float64], count: int, settings: ClusterSettings) -> Codes:
    return np.asarray(AgglomerativeClustering(count, linkage="ward").fit_predict(own), np.int64)


def _mixture(own: NDArray[np.float64], count: int, settings: ClusterSettings) -> Codes:
    dims = min(_MIXTURE_DIMS, *own.shape, len(own) - 1)
    values = PCA(dims, svd_solver="full").fit_transform(own)
    model = GaussianMixture(
        count,
        covariance_type="diag",
        reg_covar=1e-3 * float(values.var()) + 1e-12,
        n_init=settings.restarts,
        max_iter=settings.iterations,
        random_state=settings.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # duplicates seed fewer clusters than asked
        return np.asarray(model.fit_predict(values), np.int64)


def _hdbscan(own: NDArray[np.float64], count: int, settings: ClusterSettings) -> Codes:
    return np.asarray(HDBSCAN(min_cluster_size=settings.smallest, copy=True).fit_predict(own), np.int64)


_METHODS: dict[str, Callable[[NDArray[np.float64], int, ClusterSettings], Codes]] = {
    "agglomerative": _agglomerative,
    "gaussian-mixture": _mixture,
    "hdbscan": _hdbscan,
}


def _by_first(labels: Codes) -> Codes:
    """Renumbers labels in the order of their first appearance."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[numbers], np.int64)
