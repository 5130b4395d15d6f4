"""Batches of several speakers, several utterances of each, dealt out by group."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.errors import ConfigError

NONE = -1
"""The group of an utterance that belongs to none."""


class SpeakerBatches:
    """Batches in which each speaker comes with several utterances of several groups.

    Every utterance comes at least once an epoch. The utterances of a speaker are dealt out in pairs of one
    group, in another order every epoch, and cut into hands of ``per_speaker``; the last hand is filled up
    with utterances of the same speaker, as far as there are any. A batch is several hands. A batch over all
    processes is the same whether one process takes it whole or several share it.

    Iterating goes through what is left of the current epoch, and then steps to the next. What it gives are
    places in ``speakers``.

    Args:
        speakers: speaker number of each utterance, ``(N,)``.
        groups: group number within its speaker, ``(N,)``; :data:`NONE` for none.
        batch_size: utterances in a batch of one process.
        per_speaker: utterances in a hand.
        seed: with the epoch, decides the order.
        rank: number of this process.
        world: number of processes.

    Raises:
        ConfigError: for sizes that do not fit each other.
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
        self.speakers, self.groups = np.asarray(speakers), np.asarray(groups)
        self.hands, self.per_speaker = max(1, batch_size * world // per_speaker), per_speaker
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.position = 0
        self._members = [np.flatnonzero(self.speakers == speaker) for speaker in np.unique(self.speakers)]

    def __len__(self) -> int:
        """Batches an epoch."""
        hands = sum(-(-len(members) // self.per_speaker) for members in self._members)
        return -(-hands // self.hands)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places in ``speakers``."""
        generator = np.random.default_rng([self.seed, epoch])
        hands: list[NDArray[np.int64]] = []
        for members in self._members:
            order = self._dealt(members, generator)
            short = -len(order) % self.per_speaker
            if len(order) > self.per_speaker:
                order = np.concatenate([order, order[:short]])
            hands += np.split(order, range(self.per_speaker, len(order), self.per_speaker))
        shuffled = [hands[place] for place in generator.permutation(len(hands))]
        cuts = [shuffled[start : start + self.hands] for start in range(0, len(shuffled), self.hands)]
        whole = [np.concatenate(cut) for cut in cuts]
        if len(whole) > 1 and len(whole[-1]) < 2 * self.world:
            # Too few to share or to compare: borrow a hand, so that the number of batches stays.
            whole[-1] = np.concatenate([whole[-1], whole[0][: self.per_speaker]])
        return [batch[self.rank :: self.world].astype(np.int64) for batch in whole]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yields places in ``speakers``, ``(B,)``; a batch counts as done once it is handed out."""
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

    def _dealt(self, members: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        pairs: list[NDArray[np.int64]] = []
        for group in np.unique(self.groups[members]):
            own = generator.permutation(members[self.groups[members] == group])
            size = 1 if group == NONE else 2
            pairs += np.split(own, range(size, len(own), size))
        return np.concatenate([pairs[place] for place in generator.permutation(len(pairs))])
