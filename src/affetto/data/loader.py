"""Batches of cached utterances, read a few ahead of their use."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.data.batches import Batch, EpochBatches
from affetto.data.caches import resident

In = TypeVar("In")
Out = TypeVar("Out")

_AHEAD = 4  # batches that are read before they are asked for


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
        device: where batches go; nothing waits for the copy.
    """

    def __init__(
        self,
        buckets: EpochBatches,
        stores: Sequence[Store],
        rows: NDArray[np.int64],
        columns: Mapping[str, Tensor],
        curves: Mapping[str, Store] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.buckets, self.rows, self.columns = buckets, rows, dict(columns)
        self.curves = dict(curves or {})
        self.device = torch.empty(0, device=device).device  # with its number, which the thread cannot know
        self.stores = [resident(store, self.device) for store in stores]

    def __len__(self) -> int:
        return len(self.buckets)

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self.buckets.epoch, self.buckets.position
        left = enumerate(self.buckets.batches(epoch)[done:], done + 1)
        with closing(ahead(lambda each: self._read(epoch, *each), left)) as batches:
            # The position moves on when a batch is handed out, not when it is read.
            for batch, _ in zip(batches, self.buckets, strict=True):
                yield batch.to(self.device)

    def _read(self, epoch: int, number: int, places: NDArray[np.int64]) -> Batch:
        rows, store = self.rows[places], self.stores[0]
        if len(self.stores) > 1:
            place = [self.buckets.seed, epoch, number]
            store = self.stores[int(np.random.default_rng(place).integers(len(self.stores)))]
        values, lengths = store.stack(rows)
        index = torch.from_numpy(rows)
        columns = {name: column[index] for name, column in self.columns.items()}
        columns |= {name: curve.stack(rows)[0].squeeze(2) for name, curve in self.curves.items()}
        batch = Batch(values, lengths, index, columns)
        return batch.pinned() if self.device.type == "cuda" else batch

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the iteration."""
        return self.buckets.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state_dict` was taken."""
        self.buckets.load_state_dict(state)


def ahead(read: Callable[[In], Out], wanted: Iterable[In]) -> Generator[Out, None, None]:
    """Yields ``read(each)`` in order; a thread reads a few of them before they are taken.

    What ``read`` raises is raised here, in its turn.
    """
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(1, "ahead") as pool:
        try:
            for each in wanted:
                waiting.append(pool.submit(read, each))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
