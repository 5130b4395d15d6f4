"""Spherical k-means within many groups at once: all speakers, all restarts, in a few batched products.

Clusters are directions (Dhillon and Modha 2001): an utterance belongs to the centre of largest cosine, and a
centre is the normalised sum of its members. The cosine with a sum is a sum of cosines, so that all restarts
of a speaker use one small matrix, the cosines between its utterances.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_SAME = 1e-6  # cosines differ by so much through rounding alone
_SPARSE = 0.6  # below this share of moving restarts, the others are left out
_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}  # cosines that are worked on at once: as many as fit a cache


class Rows(Protocol):
    """Vectors ``(N, D)`` float32: an array, or what computes the rows that are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``N`` and ``D``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...


class Partition(NamedTuple):
    """Cluster of each utterance within its group, ``(N,)``, -1 for none; and its silhouette (Rousseeuw 1987).

    Silhouettes are by cosine distance, and 0 where there is one cluster, or none.
    """

    labels: NDArray[np.int64]
    silhouettes: NDArray[np.float32]


def spherical_kmeans(
    vectors: Rows,
    groups: NDArray[np.int64],
    counts: Sequence[int],
    *,
    restarts: int = 10,
    iterations: int = 300,
    seed: int = 0,
    device: str = "cpu",
) -> Partition:
    """Clusters the utterances ``vectors (N, D)`` of every group ``(N,)``, -1 for none, each group by itself.

    Vectors are asked for once, a whole group at a time.

    Seeding is k-means++ with a few tries a step (Arthur and Vassilvitskii 2007), as in scikit-learn. A
    restart ends when no utterance changes its cluster; the tightest restart is kept. A cluster that becomes
    empty takes the utterance farthest from its own centre, unless all are at theirs: identical utterances
    stay together. A group's result depends on its own vectors, their order and the seed only.

    Of several ``counts``, each group takes the number of clusters with the largest mean silhouette. A count
    that is not smaller than the group is left out, and a group that none fits gets no clusters.
    """
    labels = np.full(len(groups), -1, np.int64)
    silhouettes = np.zeros(len(groups), np.float32)
    counts = sorted(set(counts))
    draws = torch.from_numpy(np.random.default_rng(seed).random((restarts, max(counts), 16), np.float32))
    for rows in _chunks(groups, min(counts), device):
        space = _Space(vectors, rows, device)
        best = torch.full((len(rows),), -2.0, device=space.mask.device)
        chosen = torch.full(space.mask.shape, -1, device=best.device)
        widths = torch.zeros(space.mask.shape, device=best.device)
        for count in counts:
            fits = space.sizes > count if count > 1 else space.sizes > 0
            if not fits.any():
                continue
            assigned = _best_restart(space, count, draws.to(best.device), iterations)
            width = space.silhouettes(assigned, count)
            mean = width.sum(1) / space.sizes
            better = fits & (mean > best)
            best = torch.where(better, mean, best)
            chosen = torch.where(better[:, None], assigned, chosen)
            widths = torch.where(better[:, None], width, widths)
        for row, own, width in zip(rows, chosen.cpu().numpy(), widths.cpu().numpy(), strict=True):
            labels[row], silhouettes[row] = own[: len(row)], width[: len(row)]
    return Partition(labels, silhouettes)


class _Space:
    """The utterances of some groups, padded to the largest: ``B`` groups of at most ``n``."""

    def __init__(self, vectors: Rows, rows: list[NDArray[np.int64]], device: str) -> None:
        longest, dim = max(map(len, rows)), vectors.shape[1]
        padded = torch.zeros(len(rows), longest, dim)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = torch.from_numpy(vectors[row])
        self.sizes = torch.tensor([len(row) for row in rows], device=device)
        self.mask = torch.arange(longest, device=device) < self.sizes[:, None]
        self.unit = F.normalize(padded.to(device), dim=2)
        # Past this size the matrix of cosines would cost more than it saves.
        self.cosines = self.unit @ self.unit.transpose(1, 2) if longest <= 2 * dim else None

    def only(self, groups: Tensor) -> "_Space":
        """Returns some of the groups, by a mask ``(B,)``."""
        part = copy(self)
        part.sizes, part.mask = self.sizes[groups], self.mask[groups]
        if self.cosines is None:
            part.unit = self.unit[groups]
        else:
            part.cosines = self.cosines[groups]
        return part

    def to_rows(self, index: Tensor) -> Tensor:
        """Returns the cosines of utterances ``index (B, m)`` with all, ``(B, m, n)``."""
        wide = index[..., None]
        if self.cosines is not None:
            return self.cosines.gather(1, wide.expand(-1, -1, self.cosines.shape[2]))
        return self.unit.gather(1, wide.expand(-1, -1, self.unit.shape[2])) @ self.unit.transpose(1, 2)

    def to_sums(self, members: Tensor) -> Tensor:
        """Returns the products of all utterances with the sums of sets, ``(B, m, n)`` for both."""
        if self.cosines is not None:
            return members @ self.cosines
        return members @ self.unit @ self.unit.transpose(1, 2)

    def silhouettes(self, labels: Tensor, count: int) -> Tensor:
        """Returns the silhouettes of ``labels (B, n)``, ``(B, n)``."""
        members = _one_hot(labels[:, None], count)[:, 0]
        sizes = members.sum(2, keepdim=True)
        sums = self.to_sums(members)
        own = labels.clamp_min(0)[:, None]
        size = sizes.expand_as(sums).gather(1, own)[:, 0]
        inside = 1 - (sums.gather(1, own)[:, 0] - 1) / (size - 1).clamp_min(1)
        others = (1 - sums / sizes).masked_fill((members > 0) | (sizes == 0), torch.inf).amin(1)
        widths = (others - inside) / torch.maximum(others, inside).clamp_min(_SAME)
        return torch.where((size > 1) & others.isfinite() & (labels >= 0), widths, 0.0)


def _chunks(groups: NDArray[np.int64], fewest: int, device: str) -> Iterator[list[NDArray[np.int64]]]:
    """Yields the rows of groups of similar size, as many groups as fit."""
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    rows = [row for row in np.split(order, edges) if len(row) >= fewest and groups[row[0]] >= 0]
    rows.sort(key=len)
    most = _ELEMENTS.get(torch.device(device).type, _ELEMENTS["cuda"])
    begin = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - begin) * len(rows[end]) ** 2 > most:
            yield rows[begin:end]
            begin = end


def _one_hot(labels: Tensor, count: int) -> Tensor:
    """Returns the members ``(B, R, K, n)`` of clusters from ``labels (B, R, n)``."""
    return (labels[:, :, None] == torch.arange(count, device=labels.device)[:, None]).float()


def _best_restart(space: _Space, count: int, draws: Tensor, iterations: int) -> Tensor:
    """Returns the labels ``(B, n)`` of the tightest restart."""
    rows = space.to_rows(_seeds(space, count, draws))
    seeds = rows.reshape(len(rows), -1, count, rows.shape[-1])
    everyone = _nearest(seeds, space.mask)
    groups, restarts = everyone.shape[:2]
    # Restarts that no longer change are left out, so that the last ones do not hold up a whole batch.
    place = torch.arange(groups, device=seeds.device)[:, None]
    slots = torch.arange(restarts, device=seeds.device).expand(groups, -1)
    part, members = space, everyone
    for _ in range(iterations):
        before = members
        members = _step(part, before)
        moving = (members * before).sum((2, 3)) < part.sizes[:, None]
        live, width = moving.any(1), int(moving.sum(1).max())
        if int(live.sum()) * width <= _SPARSE * moving.numel():
            everyone[place, slots] = members
            if not width:
                break
            order = moving[live].int().argsort(dim=1, descending=True, stable=True)[:, :width]
            place, slots = place[live], slots[live].gather(1, order)
            part, members = part.only(live), everyone[place, slots]
    everyone[place, slots] = members
    tightness = _lengths(everyone, space.to_sums(everyone.flatten(1, 2)).view_as(everyone)).sum(2)
    best = everyone[torch.arange(groups, device=seeds.device), tightness.argmax(1)]
    return torch.where(space.mask, best.argmax(1), -1)


def _step(space: _Space, members: Tensor) -> Tensor:
    """Moves every utterance to the nearest centre; ``members (B, R, K, n)``."""
    sums = space.to_sums(members.flatten(1, 2)).view_as(members)
    lengths = _lengths(members, sums)[..., None]
    cosines = sums / lengths.clamp_min(_SAME)
    empty = lengths == 0
    if empty.any():
        cosines.masked_fill_(empty, -2.0)
    members = _nearest(cosines, space.mask)
    if (members.sum(3) == 0).any():
        members = _refill(members, cosines)
    return members


def _lengths(members: Tensor, sums: Tensor) -> Tensor:
    """Returns the lengths of the summed vectors of clusters, ``(B, R, K)``."""
    return (members * sums).sum(3).clamp_min(0).sqrt()


def _nearest(cosines: Tensor, mask: Tensor) -> Tensor:
    """Returns the members of the nearest centres, ``(B, R, K, n)``; of equally near ones, the first."""
    best = cosines.amax(2, keepdim=True)
    members = torch.eq(cosines, best, out=torch.empty_like(cosines)).mul_(mask[:, None, None])
    if members.sum() != mask.sum() * cosines.shape[1]:
        members *= members.cumsum(2) == 1
    return members


def _refill(members: Tensor, cosines: Tensor) -> Tensor:
    """Gives each empty cluster the utterance that is farthest from its own centre."""
    poor = (members.sum(3) == 0).any(2)
    held, near = members[poor], cosines[poor]
    apart = (1 - near.clamp_min(-1)) * held  # (P, K, n), zero outside the own cluster
    for _ in range(members.shape[2] - 1):
        sizes = held.sum(2)
        apart *= (sizes > 1)[..., None]
        distance, farthest = apart.amax(1).max(1)
        target = (sizes == 0).float().argmax(1)
        takes = torch.nonzero((distance > _SAME) & (sizes == 0).any(1))[:, 0]
        row, cluster = farthest[takes], target[takes]
        held[takes, :, row] = 0
        apart[takes, :, row] = 0
        held[takes, cluster, row] = 1
    members[poor] = held
    return members


def _seeds(space: _Space, count: int, draws: Tensor) -> Tensor:
    """Draws seeds by k-means++, ``(B, R * K)`` row numbers."""
    restarts = len(draws)
    tries = min(2 + int(np.log(count)), draws.shape[2])
    groups, longest = space.mask.shape
    last = (space.sizes - 1)[:, None, None]
    first = torch.minimum((draws[None, :, :1, 0] * space.sizes[:, None, None]).long(), last)  # (B, R, 1)
    seeds = [first[..., 0]]
    apart = (1 - space.to_rows(first[..., 0])).clamp_min(0) * space.mask[:, None]  # (B, R, n)
    for number in range(1, count):
        summed = apart.cumsum(2)
        wanted = draws[None, :, number, :tries] * summed[..., -1:]
        drawn = torch.minimum(torch.searchsorted(summed, wanted, right=True), last)
        distances = 1 - space.to_rows(drawn.flatten(1)).view(groups, restarts, tries, longest)
        closer = torch.minimum(apart[:, :, None], distances.clamp_min(0))
        best = closer.sum(3).argmin(2)[..., None]
        seeds.append(drawn.gather(2, best)[..., 0])
        apart = closer.gather(2, best[..., None].expand(-1, -1, 1, longest))[:, :, 0]
    return torch.stack(seeds, 2).flatten(1)
