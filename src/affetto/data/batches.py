"""Batches, and which utterances go together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.data.caches import WaveformCache
from affetto.errors import ConfigError

_TENSORS = ("values", "lengths", "index")


@dataclass(frozen=True)
class Batch:
    """Utterances that go through a network together.

    Attributes:
        values: samples, ``(B, S)``, or frames of a frozen encoder, ``(B, T, D)``; float32, zero past each
            end.
        lengths: samples or frames in each, ``(B,)`` int64.
        index: row numbers in the manifest, ``(B,)`` int64.
        columns: what else is known about each, by name: ``label`` ``(B,)``, ``target`` ``(B, K)``, ...
    """

    values: Tensor
    lengths: Tensor
    index: Tensor
    columns: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "Batch":
        """Returns the batch on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        return replace(self, **moved, columns=columns)


def collate(
    cache: WaveformCache, rows: NDArray[np.int64], columns: Mapping[str, Tensor] | None = None
) -> Batch:
    """Puts rows of a cache into one batch.

    Args:
        cache: the waveforms.
        rows: row numbers, ``(B,)``.
        columns: values of all rows of the manifest by name, each ``(N, ...)``; the batch gets its share.
    """
    waveforms, lengths = cache.stack(rows)
    index = torch.from_numpy(np.asarray(rows, np.int64))
    return Batch(waveforms, lengths, index, {name: column[index] for name, column in (columns or {}).items()})


class LengthBuckets:
    """Batches of utterances of similar length, in another order every epoch.

    Every utterance comes exactly once an epoch, in exactly one process, and all processes get the same number
    of batches. A batch over all processes is the same whether one process takes it whole or several share it;
    their shares differ by one utterance at most. Where less than one utterance a process is left at the end,
    it joins another batch, which then is larger than asked for.

    Iterating goes through what is left of the current epoch, and then steps to the next. What it gives are
    places in ``lengths``.

    Args:
        lengths: samples in each utterance, ``(N,)``.
        batch_size: utterances in a batch of one process.
        seed: with the epoch, decides the order.
        rank: number of this process.
        world: number of processes.
        shuffle: False for the longest first, always alike.
        drop_last: whether to leave out what does not fill a batch; another share of the data each epoch.
        spread: how far lengths may mix, as a share of the length: 0 wastes least on padding, 1 mixes most.

    Raises:
        ConfigError: for fewer utterances than processes, or a size, rank or spread out of range.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        spread: float = 0.15,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world or not 0 <= spread <= 1:
            raise ConfigError(
                f"got batch_size {batch_size}, rank {rank} of {world}, spread {spread}; the size must be "
                "at least 1, the rank below the number of processes, the spread between 0 and 1"
            )
        needed = batch_size * world if drop_last else world
        if len(lengths) < needed:
            raise ConfigError(
                f"got {len(lengths)} utterances for {world} process(es) with batches of {batch_size}; "
                f"at least {needed} are needed"
            )
        self.lengths = np.asarray(lengths, np.int64)
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.shuffle, self.drop_last, self.spread = shuffle, drop_last, spread
        self.epoch = self.position = 0

    def __len__(self) -> int:
        """Batches that one process gets in an epoch."""
        whole, rest = divmod(len(self.lengths), self.batch_size * self.world)
        return whole + (not self.drop_last and (rest >= self.world or not whole))

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places in ``lengths``."""
        size = self.batch_size * self.world
        if self.shuffle:
            generator = np.random.default_rng([self.seed, epoch])
            noise = generator.uniform(1 - self.spread, 1 + self.spread, len(self.lengths))
            order = np.lexsort((generator.random(len(noise)), self.lengths * noise))
            if self.drop_last:
                dropped = generator.permutation(len(order))[: len(order) % size]
                order = np.delete(order, dropped)
        else:
            order = np.argsort(-self.lengths, kind="stable")
        cuts = [size * number for number in range(1, len(self))]
        parts = np.split(order[: size * len(self)] if self.drop_last else order, cuts)
        if self.shuffle:
            parts = [parts[place] for place in generator.permutation(len(parts))]
        return [part[self.rank :: self.world].astype(np.int64) for part in parts]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yields places in ``lengths``, ``(B,)``; a batch counts as done once it is handed out."""
        for batch in self.batches(self.epoch)[self.position :]:
            self.position += 1
            yield batch
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Returns where the iteration stands."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state_dict` was taken, in the middle of an epoch too."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
