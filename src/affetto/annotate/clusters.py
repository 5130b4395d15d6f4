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

from affetto.annotate.kmeans import cosine_silhouettes, spherical_kmeans
from affetto.config import Settings

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]

_MIXTURE_DIMS = 10  # a speaker has too few utterances for a mixture in all dimensions


class Clustering(Settings):
    """How utterances are put into clusters.

    Attributes:
        method: spherical k-means, all speakers at once; or one of scikit-learn's, speaker by speaker: Ward's
            tree, a Gaussian mixture with diagonal covariances in the speaker's first principal directions, or
            HDBSCAN, which finds the number of clusters and leaves out what lies between them. All of them
            take vectors by their direction.
        k: numbers of clusters; of several, each speaker takes the one of largest mean silhouette.
        together: one set of clusters for all speakers, whose numbers then mean the same everywhere; k-means.
        fewest: a speaker with fewer utterances gets no cluster.
        drop: share of each speaker's utterances, the least certain ones, that get no cluster.
        smallest: fewest utterances of a cluster of HDBSCAN.
        restarts: how often k-means and mixtures begin anew.
        iterations: most steps of one restart.
        seed: of what is drawn.
    """

    method: Literal["k-means", "agglomerative", "mixture", "hdbscan"] = "k-means"
    k: tuple[int, ...] = Field((6,), min_length=1)
    together: bool = False
    fewest: int = Field(12, ge=2)
    drop: float = Field(0.0, ge=0, lt=1)
    smallest: int = Field(5, ge=2)
    restarts: int = Field(10, ge=1)
    iterations: int = Field(300, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> "Clustering":
        if min(self.k) < 2:
            raise ValueError("k: at least 2 clusters")
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


def cluster(vectors: Vectors, groups: Codes, settings: Clustering, device: str = "cpu") -> Clusters:
    """Clusters the utterances of each speaker.

    Clusters are numbered by their first utterance, within the speaker or, ``together``, over all.

    Args:
        vectors: one an utterance, ``(N, D)``.
        groups: speaker of each, ``(N,)``; -1 for utterances that are left out.
        settings: how.
        device: where k-means runs, e.g. ``cpu`` or ``cuda``.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=1)
    groups = np.where((groups >= 0) & (sizes[groups] >= settings.fewest), groups, -1)
    pools = np.where(groups >= 0, 0, -1) if settings.together else groups
    if settings.method == "k-means":
        how = {"restarts": settings.restarts, "iterations": settings.iterations, "seed": settings.seed}
        labels, silhouettes = spherical_kmeans(vectors, pools, settings.k, **how, device=device)
    else:
        labels, silhouettes = _one_by_one(vectors, groups, settings)
    confidence = np.where(labels >= 0, (1 + silhouettes) / 2, 0).astype(np.float32)
    if settings.drop:
        for rows in _rows(np.where(labels >= 0, groups, -1)):
            order = rows[np.argsort(confidence[rows], kind="stable")]
            labels[order[: int(settings.drop * len(rows))]] = -1
        confidence[labels < 0] = 0
    for rows in _rows(np.where(labels >= 0, pools, -1)):
        labels[rows] = _by_first(labels[rows])
    return Clusters(labels, confidence)


def _one_by_one(vectors: Vectors, groups: Codes, settings: Clustering) -> tuple[Codes, NDArray[np.float32]]:
    labels = np.full(len(groups), -1, np.int64)
    silhouettes = np.zeros(len(groups), np.float32)
    counts = settings.k if settings.method != "hdbscan" else (0,)
    for rows in _rows(groups):
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


def _agglomerative(own: NDArray[np.float64], count: int, settings: Clustering) -> Codes:
    return np.asarray(AgglomerativeClustering(count, linkage="ward").fit_predict(own), np.int64)


def _mixture(own: NDArray[np.float64], count: int, settings: Clustering) -> Codes:
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


def _hdbscan(own: NDArray[np.float64], count: int, settings: Clustering) -> Codes:
    return np.asarray(HDBSCAN(min_cluster_size=settings.smallest, copy=True).fit_predict(own), np.int64)


_METHODS: dict[str, Callable[[NDArray[np.float64], int, Clustering], Codes]] = {
    "agglomerative": _agglomerative,
    "mixture": _mixture,
    "hdbscan": _hdbscan,
}


def _rows(groups: Codes) -> list[Codes]:
    """Returns the rows of each group, in order; -1 is no group."""
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(rows)]


def _by_first(labels: Codes) -> Codes:
    """Renumbers labels in the order of their first appearance."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[numbers], np.int64)
