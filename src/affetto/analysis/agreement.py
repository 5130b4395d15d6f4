"""How far clusters follow something, measured speaker by speaker, against what chance gives.

Everything is arrays in, figures out. Clusters are numbered within a speaker, so a figure belongs to a speaker
first and an average is one over speakers. Chance is what comes out when a speaker's values are dealt anew
among the same utterances. Agreement is the same in scikit-learn; here it is computed for all deals at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.metrics.cluster import expected_mutual_information
from sklearn.metrics.pairwise import cosine_distances

Codes = NDArray[np.int64]
"""Numbers that stand for values, ``(N,)``; -1 where there is none."""

MEASURES = ("ami", "nmi", "v_measure", "homogeneity", "completeness", "ari", "purity")
MOST = 2000
"""Utterances of a speaker that the silhouette looks at; of more it takes so many at random."""

_TINY = float(np.finfo(np.float64).eps)
_AT_ONCE = 1 << 22  # numbers held at once where many deals are scored


@dataclass(frozen=True)
class Followed:
    """How far something is followed, by the name of the measure.

    Attributes:
        values: a figure a speaker, ``(G,)``; NaN where nothing can be said.
        chance: the mean over deals, ``(G,)``.
        p: share of deals that come as high, the data itself counted in, ``(G,)``.
        null: the mean over speakers in each deal, ``(P,)``.
    """

    values: dict[str, NDArray[np.float64]]
    chance: dict[str, NDArray[np.float64]]
    p: dict[str, NDArray[np.float64]]
    null: dict[str, NDArray[np.float64]]

    def overall_p(self, measure: str) -> float:
        """Returns how often chance brings the mean over speakers as high."""
        reached = self.null[measure] >= np.nanmean(self.values[measure]) - 1e-9
        return float((1 + reached.sum()) / (1 + len(reached)))


class Mates(NamedTuple):
    """Who shares a cluster with the utterances of one class.

    Attributes:
        share: of their mates in the cluster, how many are of the class too, ``(K,)``; NaN without any mate.
        chance: how many of all other utterances of the speaker are.
    """

    share: NDArray[np.float64]
    chance: NDArray[np.float64]


def follow(
    clusters: Codes,
    labels: Codes,
    groups: Codes,
    *,
    within: Codes | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Followed:
    """Measures how far clusters follow labels, by :data:`MEASURES`.

    Args:
        clusters: cluster of each utterance within its speaker.
        labels: what they may follow; utterances without either are left out.
        groups: speaker of each utterance, 0 to G - 1.
        within: deal labels only among utterances of a speaker that agree in this; what then is above chance
            cannot come from it.
        permutations: number of deals ``P``.
        seed: of the deals.

    Returns:
        NaN for a speaker in whom there is nothing to follow: all labels are equal or, with ``within``, are
        settled by it. A single cluster follows nothing: 0.

    The V-measure (Rosenberg and Hirschberg 2007) is NMI under another name; homogeneity and completeness are
    its parts. AMI: Vinh, Epps and Bailey 2010, by the arithmetic mean; ARI: Hubert and Arabie 1985.
    """
    strata = np.zeros_like(labels) if within is None else within

    def score(rows: Codes, generator: np.random.Generator) -> dict[str, NDArray[np.float64]] | None:
        own, held = _numbered(labels[rows]), _numbered(strata[rows])
        pairs = len(np.unique(held * len(rows) + own))
        if pairs == held.max(initial=-1) + 1:  # one label a stratum: every deal would be the same
            return None
        dealt = np.vstack([own[None], deals(own, held, permutations, generator)])
        return agreement(contingency(_numbered(clusters[rows]), dealt))

    known = (clusters >= 0) & (labels >= 0) & (strata >= 0)
    return _by_speaker(score, MEASURES, groups, known, permutations, seed)


def separate(
    vectors: NDArray[np.floating], labels: Codes, groups: Codes, *, permutations: int = 200, seed: int = 0
) -> Followed:
    """Measures how far vectors ``(N, D)`` of equal labels lie together within a speaker: ``silhouette``.

    The distance is the cosine's (Rousseeuw 1987 for the measure). NaN for a speaker with one label only, or
    with as many as utterances.
    """

    def score(rows: Codes, generator: np.random.Generator) -> dict[str, NDArray[np.float64]] | None:
        if len(rows) > MOST:
            rows = np.sort(generator.choice(rows, MOST, replace=False))
        own = _numbered(labels[rows])
        if not 2 <= own.max(initial=-1) + 1 < len(rows):
            return None
        dealt = np.vstack([own[None], deals(own, np.zeros_like(own), permutations, generator)])
        return {"silhouette": silhouettes(cosine_distances(vectors[rows]), dealt)}

    return _by_speaker(score, ("silhouette",), groups, labels >= 0, permutations, seed)


def contingency(clusters: Codes, labels: Codes) -> NDArray[np.float64]:
    """Counts utterances by cluster and label: clusters ``(N,)``, labellings ``(P, N)``, out ``(P, K, C)``."""
    rows, columns = int(clusters.max()) + 1, int(labels.max()) + 1
    cells = (np.arange(len(labels))[:, None] * rows + clusters) * columns + labels
    counts = np.bincount(cells.ravel(), minlength=len(labels) * rows * columns)
    return counts.reshape(len(labels), rows, columns).astype(np.float64)


def agreement(tables: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns :data:`MEASURES` of tables ``(P, K, C)``, ``(P,)`` each.

    Rows must sum to the same in all tables, and so must columns: then the agreement that chance gives is one
    number for all of them, which is what makes many tables cheap.
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
    together = (tables**2).sum(axis=(1, 2))
    apart_label, apart_cluster = (rows**2).sum() - together, (columns**2).sum() - together
    both, neither = together - total, total**2 - (rows**2).sum() - (columns**2).sum() + together
    ari_mass = (both + apart_cluster) * (apart_cluster + neither) + (both + apart_label) * (
        apart_label + neither
    )
    top = 2 * (both * neither - apart_label * apart_cluster)
    ari = np.divide(top, ari_mass, out=np.ones(len(tables)), where=ari_mass > 0)
    ones = np.ones(len(tables))
    nmi = shared / middle if middle > _TINY else ones
    parts = [shared / entropy if entropy > _TINY else ones for entropy in (by_label, by_cluster)]
    purity = tables.max(axis=2).sum(axis=1) / total
    return dict(zip(MEASURES, (ami, nmi, nmi, *parts, ari, purity), strict=True))


def silhouettes(distances: NDArray[np.floating], labels: Codes) -> NDArray[np.float64]:
    """Returns the mean silhouette of each labelling ``(P, N)`` under distances ``(N, N)``, ``(P,)``."""
    count, classes = len(distances), int(labels.max()) + 1
    sizes = np.bincount(labels[0], minlength=classes).astype(np.float64)
    found = np.empty(len(labels))
    step = max(1, _AT_ONCE // (count * classes))
    for first in range(0, len(labels), step):
        part = labels[first : first + step]
        member = (part[:, :, None] == np.arange(classes)).astype(distances.dtype)  # (p, N, C)
        sums = distances @ member.transpose(1, 0, 2).reshape(count, -1)
        sums = sums.reshape(count, len(part), classes).transpose(1, 0, 2)
        own = np.take_along_axis(sums, part[:, :, None], axis=2)[:, :, 0]
        inside = own / np.maximum(sizes[part] - 1, 1)
        means = np.where(member > 0, np.inf, sums / sizes)
        outside = means.min(axis=2)
        larger = np.maximum(inside, outside)
        worth = np.where(
            (sizes[part] > 1) & (larger > 0), (outside - inside) / np.maximum(larger, _TINY), 0.0
        )
        found[first : first + step] = worth.mean(axis=1)
    return found


def deals(labels: Codes, strata: Codes, count: int, generator: np.random.Generator) -> Codes:
    """Deals labels ``(N,)`` anew among the utterances of each stratum, ``count`` times: ``(count, N)``."""
    drawn = np.argsort(strata + generator.random((count, len(labels))), axis=1)
    dealt = np.empty((count, len(labels)), np.int64)
    dealt[:, np.argsort(strata, kind="stable")] = labels[drawn]
    return dealt


def quantile_bins(values: NDArray[np.floating], groups: Codes, bins: int) -> Codes:
    """Puts each speaker's values into equally filled bins, 0 the lowest; equal ones together, NaN in -1."""
    binned = np.full(len(values), -1, np.int64)
    for _, rows in _speakers(groups, np.isfinite(values)):
        edges = np.quantile(values[rows], np.arange(1, bins) / bins)
        binned[rows] = np.searchsorted(edges, values[rows], side="right")
    return binned


def mates(clusters: Codes, labels: Codes, groups: Codes) -> Mates:
    """Says who shares a cluster with whom, class by class, the pairs of all speakers together."""
    classes = int(labels.max(initial=-1)) + 1
    same, pairs, equal, others = (np.zeros(classes) for _ in range(4))
    for _, rows in _speakers(groups, (clusters >= 0) & (labels >= 0)):
        counts = contingency(_numbered(clusters[rows]), labels[None, rows])[0]
        counts = np.pad(counts, ((0, 0), (0, classes - counts.shape[1])))
        own = counts.sum(axis=0)
        same += (counts * (counts - 1)).sum(axis=0)
        pairs += (counts * (counts.sum(axis=1, keepdims=True) - 1)).sum(axis=0)
        equal += own * (own - 1)
        others += own * (len(rows) - 1)
    blank = np.full(classes, np.nan)
    return Mates(
        np.divide(same, pairs, out=blank.copy(), where=pairs > 0),
        np.divide(equal, others, out=blank, where=others > 0),
    )


def _by_speaker(
    score: Callable[[Codes, np.random.Generator], dict[str, NDArray[np.float64]] | None],
    measures: tuple[str, ...],
    groups: Codes,
    known: NDArray[np.bool_],
    permutations: int,
    seed: int,
) -> Followed:
    size = int(groups.max(initial=-1)) + 1
    values, chance, p = ({name: np.full(size, np.nan) for name in measures} for _ in range(3))
    null = {name: np.zeros(permutations) for name in measures}
    counted = 0
    for speaker, rows in _speakers(groups, known):
        scores = score(rows, np.random.default_rng([seed, speaker]))
        if scores is None:
            continue
        counted += 1
        for name, (own, *dealt) in scores.items():
            values[name][speaker], chance[name][speaker] = own, np.mean(dealt)
            p[name][speaker] = (1 + (np.array(dealt) >= own - 1e-9).sum()) / (1 + permutations)
            null[name] += dealt
    return Followed(values, chance, p, {name: sums / max(counted, 1) for name, sums in null.items()})


def _speakers(groups: Codes, known: NDArray[np.bool_]) -> Iterator[tuple[int, Codes]]:
    """Yields each speaker with its known rows."""
    rows = np.flatnonzero(known)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    names, starts = np.unique(groups[rows], return_index=True)
    if len(names):
        yield from zip(names.tolist(), np.split(rows, starts[1:]), strict=True)


def _numbered(values: Codes) -> Codes:
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keeps the sign, and at least the smallest step from 0: a perfect match is 1 and not 0 / 0."""
    return np.where(values < 0, np.minimum(values, -_TINY), np.maximum(values, _TINY))
