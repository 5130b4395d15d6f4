"""Batches, and which utterances go together: those of similar length, or of the same speakers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import ConfigError

NONE = -1  # the group of an utterance that belongs to none
_SPREAD = 0.15  # how far lengths may mix, as a share of the length: less pads less, more mixes more


@dataclass(frozen=True)
class Batch:
    """Utterances that go through a network together."""

    values: Tensor  # samples (B, S), or frames of a frozen encoder (B, T, D); float32, zero past each end
    lengths: Tensor  # samples or frames in each, (B,) int64
    index: Tensor  # row numbers in the manifest, (B,) int64
    columns: dict[str, Tensor]  # what else is known about each, by name: label (B,), target (B, K), ...

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "Batch":
        """Returns the batch on another device; waits for no copy from pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """Returns the batch in memory that a GPU reads by itself, as far as it is not on one already."""
        return self._each(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        columns = {name: change(column) for name, column in self.columns.items()}
        return Batch(change(self.values), change(self.lengths), change(self.index), columns)


class EpochBatches(ABC):
    """Batches in another order every epoch, which ``seed`` and the epoch decide.

    Iterating yields what is left of the current epoch, as places of utterances ``(B,)``, and steps to the
    next. A batch over all ``world`` processes is the same however many share it; this is number ``rank``.
    """

    def __init__(self, seed: int, rank: int, world: int) -> None:
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.position = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places of utterances ``(B,)``."""

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yields batches; one counts as done once it is handed out."""
        for batch in self.batches(self.epoch)[self.position :]:
            self.position += 1
            yield batch
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Returns the position of the iteration."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state_dict` was taken, in the middle of an epoch too."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


class LengthBuckets(EpochBatches):
    """Batches of ``batch_size`` utterances of similar length, from ``lengths (N,)`` in samples.

    Every utterance comes once an epoch, in one process, and all processes get the same number of batches.
    Where less than one utterance a process is left at the end, it joins another batch.
    """

    def __init__(
        self, lengths: NDArray[np.int64], batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
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
        order = by_length(np.arange(len(self.lengths)), self.lengths, generator)
        size = self.batch_size * self.world
        parts = np.split(order, [size * number for number in range(1, len(self))])
        shuffled = [parts[place] for place in generator.permutation(len(parts))]
        return [part[self.rank :: self.world].astype(np.int64) for part in shuffled]


def by_length(
    places: NDArray[np.int64], lengths: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Returns places of utterances, about in the order of their ``lengths (N,)``."""
    noise = generator.uniform(1 - _SPREAD, 1 + _SPREAD, len(places))
    return places[np.lexsort((generator.random(len(noise)), lengths[places] * noise))]


class SpeakerBatches(EpochBatches):
    """Batches in which each speaker comes with several utterances of several groups.

    Every utterance comes at least once an epoch. The utterances of a speaker ``(N,)`` are put into pairs of
    one group ``(N,)``, :data:`NONE` for none, and cut into sets of ``per_speaker``, the last filled up with
    others of the speaker. A batch is several sets, ``batch_size`` utterances in each process.
    """

    def __init__(
        self,
        speakers: NDArray[np.int64],
        groups: NDArray[np.int64],
        batch_size: int,
        per_speaker: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 2 <= per_speaker <= batch_size * world or not 0 <= rank < world:
            raise ConfigError(
                f"got per_speaker {per_speaker}, batch_size {batch_size} and process {rank} of {world}; "
                "per_speaker must be at least 2 and at most the whole batch"
            )
        if len(speakers) < 2 * world:
            raise ConfigError(f"got {len(speakers)} utterances for {world} process(es); too few to compare")
        super().__init__(seed, rank, world)
        self.groups, self.per_speaker = np.asarray(groups), per_speaker
        self._sets = max(1, batch_size * world // per_speaker)  # in a batch
        self._members = [np.flatnonzero(speakers == speaker) for speaker in np.unique(speakers)]

    def __len__(self) -> int:
        """Batches an epoch."""
        sets = sum(-(-len(members) // self.per_speaker) for members in self._members)
        return -(-sets // self._sets)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places in ``speakers``."""
        generator = np.random.default_rng([self.seed, epoch])
        sets: list[NDArray[np.int64]] = []
        for members in self._members:
            order = _in_pairs(members, self.groups, generator)
            short = -len(order) % self.per_speaker
            if len(order) > self.per_speaker:
                order = np.concatenate([order, order[:short]])
            sets += np.split(order, range(self.per_speaker, len(order), self.per_speaker))
        shuffled = [sets[place] for place in generator.permutation(len(sets))]
        cuts = [shuffled[start : start + self._sets] for start in range(0, len(shuffled), self._sets)]
        whole = [np.concatenate(cut) for cut in cuts]
        if len(whole) > 1 and len(whole[-1]) < 2 * self.world:
            # Too few to share or to compare: repeat a set, so that the number of batches stays.
            whole[-1] = np.concatenate([whole[-1], whole[0][: self.per_speaker]])
        return [batch[self.rank :: self.world].astype(np.int64) for batch in whole]


def by_speaker(
    places: NDArray[np.int64],
    speakers: NDArray[np.int64],
    groups: NDArray[np.int64],
    per_speaker: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Returns places of utterances in sets of at most ``per_speaker`` of one speaker, shuffled as sets."""
    sets: list[NDArray[np.int64]] = []
    for speaker in np.unique(speakers[places]):
        order = _in_pairs(places[speakers[places] == speaker], groups, generator)
        sets += np.split(order, range(per_speaker, len(order), per_speaker))
    return np.concatenate([sets[place] for place in generator.permutation(len(sets))])


def _in_pairs(
    members: NDArray[np.int64], groups: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Returns a speaker's utterances in random order, two of one group after each other."""
    pairs: list[NDArray[np.int64]] = []
    for group in np.unique(groups[members]):
        own = generator.permutation(members[groups[members] == group])
        size = 1 if group == NONE else 2
        pairs += np.split(own, range(size, len(own), size))
    return np.concatenate([pairs[place] for place in generator.permutation(len(pairs))])
