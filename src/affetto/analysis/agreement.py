"""Agreement of clusters with labels within speakers, against random permutations; a probe across speakers.

Clusters are numbered within a speaker, so a measure belongs to a speaker and an average is one over speakers.
scikit-learn has the same measures of one labelling; here they are computed for all permutations at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.cluster import expected_mutual_information
from sklearn.metrics.pairwise import cosine_distances
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affetto.vectors.spaces import members

Codes = NDArray[np.int64]
"""Values as numbers from 0, ``(N,)``; -1 for none."""

MEASURES = ("ami", "nmi", "v_measure", "homogeneity", "completeness", "ari", "purity")
MOST = 2000
"""Utterances of a speaker in a silhouette or a map; of more, a random sample of this size."""

_TINY = float(np.finfo(np.float64).eps)
_AT_ONCE = 1 << 22  # numbers in memory at once


class Agreement(NamedTuple):
    """Measures by name: ``values`` a speaker ``(G,)``, NaN for none; ``chance``, the mean of permutations.

    ``p`` is the share of permutations that reach the value, the data counted in, ``(G,)``; ``null`` is the
    mean over speakers in each permutation, ``(P,)``.
    """

    values: dict[str, NDArray[np.float64]]
    chance: dict[str, NDArray[np.float64]]
    p: dict[str, NDArray[np.float64]]
    null: dict[str, NDArray[np.float64]]

    def overall_p(self, measure: str) -> float:
        """Returns the share of permutations that reach the mean over speakers."""
        reached = self.null[measure] >= np.nanmean(self.values[measure]) - 1e-9
        return float((1 + reached.sum()) / (1 + len(reached)))


def measure_agreement(
    clusters: Codes,
    labels: Codes,
    groups: Codes,
    permutations: int = 200,
    seed: int = 0,
    within: Codes | None = None,
) -> Agreement:
    """Measures the agreement of clusters with labels, by :data:`MEASURES`.

    ``clusters``, numbered within each speaker, and ``labels`` are ``(N,)``, -1 for an utterance that is left
    out; ``groups`` are the speakers, 0 to G - 1. With ``within`` labels are permuted only among utterances of
    a speaker that are equal in it, so that agreement above chance cannot come from it. NaN for a speaker
    whose labels are all equal or follow from ``within``; one cluster gives 0.

    The V-measure (Rosenberg and Hirschberg 2007) equals NMI; homogeneity and completeness are its parts. AMI:
    Vinh, Epps and Bailey 2010, arithmetic mean; ARI: Hubert and Arabie 1985.
    """
    strata = np.zeros_like(labels) if within is None else within

    def score(rows: Codes, permuted: Codes) -> dict[str, NDArray[np.float64]]:
        return agreement_of(contingency(_numbered(clusters[rows]), permuted))

    known = (clusters >= 0) & (labels >= 0) & (strata >= 0)
    return _by_speaker(score, MEASURES, groups, known, labels, strata, permutations, seed)


def measure_separation(
    vectors: NDArray[np.floating], labels: Codes, groups: Codes, permutations: int = 200, seed: int = 0
) -> Agreement:
    """Measures the ``silhouette`` (Rousseeuw 1987, cosine) of labels in vectors ``(N, D)``, by speaker.

    NaN for a speaker with one label, or with a label of its own for every utterance.
    """

    def score(rows: Codes, permuted: Codes) -> dict[str, NDArray[np.float64]]:
        if permuted[0].max() + 1 == len(rows):
            return {}
        return {"silhouette": silhouettes(cosine_distances(vectors[rows]), permuted)}

    alike = np.zeros_like(labels)
    return _by_speaker(score, ("silhouette",), groups, labels >= 0, labels, alike, permutations, seed, MOST)


def contingency(clusters: Codes, labels: Codes) -> NDArray[np.float64]:
    """Counts utterances ``(P, K, C)`` by cluster and label: clusters ``(N,)``, labellings ``(P, N)``."""
    rows, columns = int(clusters.max()) + 1, int(labels.max()) + 1
    cells = (np.arange(len(labels))[:, None] * rows + clusters) * columns + labels
    counts = np.bincount(cells.ravel(), minlength=len(labels) * rows * columns)
    return counts.reshape(len(labels), rows, columns).astype(np.float64)


def agreement_of(tables: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns :data:`MEASURES` of ``P`` contingency tables ``(P, K, C)``.

    All tables must have the same sums of rows and columns, as permutations have: then the expected mutual
    information is one number, and many tables are cheap.
    """
    rows, columns, total = tables[0].sum(axis=1), tables[0].sum(axis=0), float(tables[0].sum())
    by_cluster, by_label = (-float(xlogy(part, part / total).sum()) / total for part in (rows, columns))
    expected = np.maximum(rows[:, None] * columns / total, _TINY)
    shared = np.maximum(xlogy(tables, tables / expected).sum(axis=(1, 2)) / total, 0.0)
    middle = (by_cluster + by_label) / 2
    if min(by_cluster, by_label) > _TINY:
        chance = float(expected_mutual_information(tables[0].astype(np.int64), int(total)))
        ami = _away_from_zero(shared - chance) / _away_from_zero(np.array(middle - chance))
    else:
        ami = np.zeros(len(tables))
    together = (tables * (tables - 1)).sum(axis=(1, 2))  # ordered pairs of utterances
    in_cluster, in_label = ((part * (part - 1)).sum() for part in (rows, columns))
    random, most = in_cluster * in_label / (total * (total - 1)), (in_cluster + in_label) / 2
    ones = np.ones(len(tables))
    ari = (together - random) / (most - random) if most > random else ones
    nmi = shared / middle if middle > _TINY else ones
    parts = [shared / entropy if entropy > _TINY else ones for entropy in (by_label, by_cluster)]
    purity = tables.max(axis=2).sum(axis=1) / total
    return dict(zip(MEASURES, (ami, nmi, nmi, *parts, ari, purity), strict=True))


def silhouettes(distances: NDArray[np.floating], labels: Codes) -> NDArray[np.float64]:
    """Returns the mean silhouette of each labelling ``(P, N)`` under distances ``(N, N)``, ``(P,)``."""
    classes = int(labels.max()) + 1
    sizes = np.bincount(labels[0], minlength=classes).astype(np.float64)
    found = np.empty(len(labels))
    step = max(1, _AT_ONCE // (len(distances) * classes))
    for first in range(0, len(labels), step):
        part = labels[first : first + step]
        member = (part[:, :, None] == np.arange(classes)).astype(distances.dtype)  # (p, N, C)
        sums = distances @ member
        inside = (sums * member).sum(axis=2) / np.maximum(sizes[part] - 1, 1)
        outside = np.where(member > 0, np.inf, sums / sizes).min(axis=2)
        larger = np.maximum(inside, outside)
        known = (sizes[part] > 1) & (larger > 0)
        worth = np.where(known, (outside - inside) / np.maximum(larger, _TINY), 0.0)
        found[first : first + step] = worth.mean(axis=1)
    return found


def quantile_bins(values: NDArray[np.floating], groups: Codes, bins: int) -> Codes:
    """Returns the quantile bin of each value among those of its speaker, from 0; -1 for NaN."""
    binned = np.full(len(values), -1, np.int64)
    for rows in members(np.where(np.isfinite(values), groups, -1)):
        edges = np.quantile(values[rows], np.arange(1, bins) / bins)
        binned[rows] = np.searchsorted(edges, values[rows], side="right")
    return binned


def cluster_partners(clusters: Codes, labels: Codes, groups: Codes) -> pd.DataFrame:
    """Counts pairs of utterances of a speaker, a row a class.

    ``share`` is how many of the utterances that share a cluster with one of the class have the class too,
    ``chance`` how many of all other utterances of the speaker.
    """
    known = (clusters >= 0) & (labels >= 0)
    table = pd.DataFrame({"speaker": groups, "cluster": clusters, "label": labels})[known]

    def others(*names: str) -> pd.Series:
        """Counts, by class, the other utterances that are equal in some columns."""
        found = table.groupby(list(names))["label"].transform("size") - 1
        return found.groupby(table["label"]).sum().reindex(range(int(labels.max(initial=-1)) + 1))

    share = others("speaker", "cluster", "label") / others("speaker", "cluster")
    return pd.DataFrame({"share": share, "chance": others("speaker", "label") / others("speaker")})


def _by_speaker(
    score: Callable[[Codes, Codes], dict[str, NDArray[np.float64]]],
    measures: tuple[str, ...],
    groups: Codes,
    known: NDArray[np.bool_],
    labels: Codes,
    strata: Codes,
    permutations: int,
    seed: int,
    most: int | None = None,
) -> Agreement:
    """Scores the known rows of each speaker, ``most`` at most, with their labels and with permutations."""
    size = int(groups.max(initial=-1)) + 1
    values, chance, p = ({name: np.full(size, np.nan) for name in measures} for _ in range(3))
    null = {name: np.zeros(permutations) for name in measures}
    counted = 0
    for rows in members(np.where(known, groups, -1)):
        speaker = int(groups[rows[0]])
        generator = np.random.default_rng([seed, speaker])
        if most is not None and len(rows) > most:
            rows = np.sort(generator.choice(rows, most, replace=False))
        own, held = _numbered(labels[rows]), _numbered(strata[rows])
        if len(np.unique(held * len(rows) + own)) == held.max() + 1:
            continue  # one label a stratum: permutations change nothing
        permuted = np.vstack([own[None], _permutations(own, held, permutations, generator)])
        scores = score(rows, permuted)
        counted += bool(scores)
        for name, (value, *drawn) in scores.items():
            values[name][speaker], chance[name][speaker] = value, np.mean(drawn)
            p[name][speaker] = (1 + (np.array(drawn) >= value - 1e-9).sum()) / (1 + permutations)
            null[name] += drawn
    return Agreement(values, chance, p, {name: sums / max(counted, 1) for name, sums in null.items()})


def _permutations(labels: Codes, strata: Codes, count: int, generator: np.random.Generator) -> Codes:
    """Permutes labels ``(N,)`` among the utterances of each stratum, ``(count, N)``."""
    drawn = np.argsort(strata + generator.random((count, len(labels))), axis=1)
    permuted = np.empty((count, len(labels)), np.int64)
    permuted[:, np.argsort(strata, kind="stable")] = labels[drawn]
    return permuted


def _numbered(values: Codes) -> Codes:
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # so that a perfect match is 1 and not 0 / 0
    return np.where(values < 0, np.minimum(values, -_TINY), np.maximum(values, _TINY))


def probe(
    vectors: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicts classes by balanced logistic regression on standardised vectors ``(N, D)``, folds by speaker.

    Returns class and fold of each utterance, ``(N,)``: -1 for an utterance of class -1, and for all where
    there are fewer than two speakers or classes, or a fold would be trained on one class.
    """
    predicted, fold_of = np.full(len(labels), -1, np.int64), np.full(len(labels), -1, np.int64)
    known = np.flatnonzero(labels >= 0)
    count = min(folds, len(np.unique(groups[known])))
    if count < 2:
        return predicted, fold_of
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    splits = [split for split in splitter.split(known, labels[known], groups[known]) if len(split[1])]
    if any(len(np.unique(labels[known[train]])) < 2 for train, _ in splits):
        return predicted, fold_of
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    model = make_pipeline(StandardScaler(), regression)
    predicted[known] = cross_val_predict(model, vectors[known], labels[known], cv=splits)
    for fold, (_, test) in enumerate(splits):
        fold_of[known[test]] = fold
    return predicted, fold_of
