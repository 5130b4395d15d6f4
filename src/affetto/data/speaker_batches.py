"""Batches of several speakers, with several utterances of each in pairs of one group."""

import numpy as np
from numpy.typing import NDArray

from affetto.data.batches import EpochBatches
from affetto.errors import ConfigError

NONE = -1
"""The group of an utterance that belongs to none."""


class SpeakerBatches(EpochBatches):
    """Batches in which each speaker comes with several utterances of several groups.

    Every utterance comes at least once an epoch. The utterances of a speaker ``(N,)`` are put into pairs of
    one group ``(N,)``, :data:`NONE` for none; the pairs are shuffled and cut into sets of ``per_speaker``,
    the last filled up with utterances of the same speaker, as far as there are any. A batch is several sets,
    ``batch_size`` utterances in each process.
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
            order = self._in_pairs(members, generator)
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

    def _in_pairs(self, members: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Returns a speaker's utterances in random order, two of one group after each other."""
        pairs: list[NDArray[np.int64]] = []
        for group in np.unique(self.groups[members]):
            own = generator.permutation(members[self.groups[members] == group])
            size = 1 if group == NONE else 2
            pairs += np.split(own, range(size, len(own), size))
        return np.concatenate([pairs[place] for place in generator.permutation(len(pairs))])
