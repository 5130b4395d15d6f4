"""Batches of cached utterances, read as they are needed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.data.batches import Batch, EpochBatches


class Store(Protocol):
    """Cached utterances of any length: waveforms or frames."""

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows stacked and padded, and their lengths."""


class FixedVectors:
    """One vector an utterance, ``(N, D)``, as a store of utterances of one frame."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows ``(B, 1, D)`` and their lengths, all 1."""
        return self.vectors[torch.from_numpy(rows)][:, None], torch.ones(len(rows), dtype=torch.int64)


class Loader:
    """Iterates over one epoch of batches and can go on from the middle of one.

    Args:
        buckets: which utterances go together, as places in ``rows``.
        stores: versions of the corpus; each batch of each epoch comes from one of them, at random.
        rows: row numbers of the utterances that take part, ``(M,)``.
        columns: values of all rows by name, each ``(N, ...)``.
        curves: values over time by name, each with one column; a batch gets them as a column ``(B, T)``.
    """

    def __init__(
        self,
        buckets: EpochBatches,
        stores: Sequence[Store],
        rows: NDArray[np.int64],
        columns: Mapping[str, Tensor],
        curves: Mapping[str, Store] | None = None,
    ) -> None:
        self.buckets, self.stores, self.rows, self.columns = buckets, stores, rows, dict(columns)
        self.curves = dict(curves or {})

    def __len__(self) -> int:
        return len(self.buckets)

    def __iter__(self) -> Iterator[Batch]:
        for places in self.buckets:
            rows = self.rows[places]
            store = self.stores[0]
            if len(self.stores) > 1:
                place = [self.buckets.seed, self.buckets.epoch, self.buckets.position]
                store = self.stores[int(np.random.default_rng(place).integers(len(self.stores)))]
            values, lengths = store.stack(rows)
            index = torch.from_numpy(rows)
            columns = {name: column[index] for name, column in self.columns.items()}
            columns |= {name: curve.stack(rows)[0].squeeze(2) for name, curve in self.curves.items()}
            yield Batch(values, lengths, index, columns)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the iteration."""
        return self.buckets.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state_dict` was taken."""
        self.buckets.load_state_dict(state)
