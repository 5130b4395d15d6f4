"""Batches, and which utterances go together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import ConfigError

_TENSORS = ("values", "lengths", "index")
_SPREAD = 0.15  # how far lengths may mix, as a share of the length: less pads less, more mixes more


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


class EpochBatches:
    """Batches in another order every epoch, which ``seed`` and the epoch decide.

    Iterating yields what is left of the current epoch, as places of utterances ``(B,)``, and then steps to
    the next. A batch over all ``world`` processes is the same however many share it; this is number ``rank``.
    """

    def __init__(self, seed: int, rank: int, world: int) -> None:
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.position = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places of utterances ``(B,)``."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yields batches; one counts as done once it is handed out."""
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


class LengthBuckets(EpochBatches):
    """Batches of utterances of similar length, from ``lengths (N,)`` in samples.

    Every utterance comes exactly once an epoch, in exactly one process, and all processes get the same number
    of batches of ``batch_size``; their shares differ by one utterance at most. Where less than one utterance
    a process is left at the end, it joins another batch, which then is larger.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world:
            raise ConfigError(
                f"got batch_size {batch_size}, rank {rank} of {world}; the size must be at least 1, the rank "
                "below the number of processes"
            )
        if len(lengths) < world:
            raise ConfigError(
                f"got {len(lengths)} utterances for {world} process(es) with batches of {batch_size}; "
                f"at least {world} are needed"
            )
        super().__init__(seed, rank, world)
        self.lengths, self.batch_size = np.asarray(lengths, np.int64), batch_size

    def __len__(self) -> int:
        """Batches that one process gets in an epoch."""
        whole, rest = divmod(len(self.lengths), self.batch_size * self.world)
        return whole + (rest >= self.world or not whole)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places in ``lengths``."""
        generator = np.random.default_rng([self.seed, epoch])
        noise = generator.uniform(1 - _SPREAD, 1 + _SPREAD, len(self.lengths))
        order = np.lexsort((generator.random(len(noise)), self.lengths * noise))
        size = self.batch_size * self.world
        parts = np.split(order, [size * number for number in range(1, len(self))])
        shuffled = [parts[place] for place in generator.permutation(len(parts))]
        return [part[self.rank :: self.world].astype(np.int64) for part in shuffled]
