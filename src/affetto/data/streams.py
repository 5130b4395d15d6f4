"""Recordings in tar files without a cache: batches in the order of the files, and what reads them so."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import decode
from affetto.data.batches import EpochBatches
from affetto.errors import AffettoError, AudioError, ConfigError, ManifestError
from affetto.members import NamedBytes, file_stamp, member_of
from affetto.parallel import cores

if TYPE_CHECKING:  # it loads pandas, which predict does without
    from affetto.corpora.manifest import Manifest

Order = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]
"""Puts places of utterances into an order from which batches are cut."""

_STREAMS = 8  # places of the corpus that are read side by side, so that a batch has speakers of several
_STRETCH_BYTES = 4 << 20  # that are read at once
_KEEP = 64  # calls, until a sampler knows better


class ShardBatches(EpochBatches):
    """Batches that read shards from their beginning to their end.

    The utterances of an epoch are in the order of the shards, which changes with the epoch. They are cut into
    eight streams of one length, which are read side by side. Each process has streams of its own, so that 1,
    2, 4 and 8 processes take the same utterances in a step. About ``buffer`` utterances that are next to each
    other in the streams are put into batches together, by ``order``; these batches come in random order.

    Args:
        shards: places of the utterances of each shard, in its order.
        batch_size: utterances in a batch of one process.
        buffer: utterances that are shuffled, over all processes.
        order: puts utterances that belong into a batch together after each other.
    """

    def __init__(
        self,
        shards: Sequence[NDArray[np.int64]],
        batch_size: int,
        buffer: int,
        order: Order,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(seed, rank, world)
        size, self._order = batch_size * world, order
        count = sum(map(len, shards))
        self._count = max(1, -(-count // size))
        each = count // self._count
        self._own = max(1, _STREAMS // world)  # streams of this process
        while self._own > 1 and self._own * world > each:
            self._own //= 2
        if self._own * world > each:
            raise ConfigError(
                f"got {count} utterances for {world} process(es) with batches of {batch_size}; at least "
                f"{self._count * world} are needed"
            )
        self.together = max(1, buffer // size)  # batches that are made of the same utterances
        self._shards = list(shards)

    def __len__(self) -> int:
        """Batches that one process gets in an epoch."""
        return self._count

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns this process's batches of an epoch, as places of utterances."""
        generator = np.random.default_rng([self.seed, epoch])
        order = np.concatenate([self._shards[place] for place in generator.permutation(len(self._shards))])
        streams = np.array_split(order, self._own * self.world)
        own = range(self.rank * self._own, (self.rank + 1) * self._own)
        made: list[NDArray[np.int64]] = []
        for first in range(0, self._count, self.together):
            last = min(first + self.together, self._count)
            turns, parts = generator.permutation(last - first), []
            for number in own:
                stream = streams[number]
                stretch = stream[len(stream) * first // self._count : len(stream) * last // self._count]
                # A stream draws for itself, so that it does not matter which process has it.
                ordered = self._order(stretch, np.random.default_rng([self.seed, epoch, first, number]))
                parts.append(np.array_split(ordered, last - first))
            made += [np.concatenate([part[turn] for part in parts]).astype(np.int64) for turn in turns]
        return made


class PackedWaveforms:
    """The recordings of a manifest in tar files, decoded when they are asked for, as a store.

    What is asked for is read in stretches of about 4 MiB, in the order of the files, and a stretch is kept
    until ``keep`` calls did not use it. A recording that cannot be decoded counts as silence.

    Attributes:
        lengths: samples in each row, ``(N,)``, as the column ``samples`` has them.
        errors: the reason for each row that could not be decoded so far, by key.
        name: a hash that changes with the files.
    """

    def __init__(self, manifest: "Manifest") -> None:
        from affetto.corpora.tabular import SAMPLES, TIMES  # pandas, which predict does without
        from affetto.errors import some

        paths, table = manifest.paths, manifest.table
        members = [member_of(path) for path in paths]
        self._keys, self._paths = manifest.keys, paths
        if loose := [key for key, member in zip(self._keys, members, strict=True) if member is None]:
            raise ManifestError(
                f"shuffle_buffer is for recordings in tar files, and {len(loose)} are in none: {some(loose)}"
                "; affetto manifest pack makes a manifest of tar files"
            )
        manifest.require(SAMPLES)
        self.lengths = table[SAMPLES].to_numpy(np.int64)
        self._times = [
            [None if np.isnan(second) else second for second in table[name].tolist()] for name in TIMES
        ]
        there = [member for member in members if member]
        names, tars = np.unique([member.tar for member in there], return_inverse=True)
        self._tars, self._tar = names.tolist(), tars
        self._begin = np.array([member.offset for member in there], np.int64)
        self._end = self._begin + [member.size for member in there]
        stretches = np.stack([tars, self._begin // _STRETCH_BYTES])
        self._stretch = np.unique(stretches, axis=1, return_inverse=True)[1].reshape(-1)
        order = np.argsort(self._stretch, kind="stable")
        starts = np.flatnonzero(np.diff(self._stretch[order], prepend=-1))
        self._first = np.minimum.reduceat(self._begin[order], starts)  # byte of each stretch
        self._last = np.maximum.reduceat(self._end[order], starts)
        self._tar_of = tars[order][starts]
        self._held: dict[int, bytes] = {}
        self._used: dict[int, int] = {}  # the call that used a stretch last
        self._calls, self.keep = 0, _KEEP
        self.errors: dict[str, str] = {}
        facts = [[str(path), *file_stamp(path)] for path in paths]
        self.name = hashlib.sha256(json.dumps([facts, self._times]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.lengths)

    def by_shard(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Returns places in ``rows`` for each tar file that has some, in its order."""
        order = np.lexsort((self._begin[rows], self._tar[rows]))
        return np.split(order, np.flatnonzero(np.diff(self._tar[rows][order])) + 1)

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows as a cache does: ``(B, S)``, zero past their ends, and lengths ``(B,)``."""
        self._hold(np.unique(self._stretch[rows]).tolist())
        lengths = self.lengths[rows]
        stacked = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), np.float32)
        # Several rows a task, since threads wait for each other between two calls.
        parts = np.array_split(np.arange(len(rows)), min(len(rows), 4 * cores()))
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda part: self._decode(rows[part], [stacked[place] for place in part]), parts))
        return torch.from_numpy(stacked), torch.from_numpy(lengths)

    def _hold(self, stretches: list[int]) -> None:
        self._calls += 1
        for number in stretches:
            self._used[number] = self._calls
            if number not in self._held:
                self._held[number] = self._read(number)
        for number in [number for number, call in self._used.items() if call <= self._calls - self.keep]:
            del self._used[number], self._held[number]

    def _read(self, number: int) -> bytes:
        tar, first = self._tars[self._tar_of[number]], int(self._first[number])
        try:
            with open(tar, "rb", buffering=0) as file:
                file.seek(first)
                return file.read(int(self._last[number]) - first)
        except OSError as error:
            raise AffettoError(
                f"{tar} cannot be read ({error.strerror or error}); once it can be, the same command goes on "
                "from the last checkpoint"
            ) from error

    def _decode(self, rows: NDArray[np.int64], places: list[NDArray[np.float32]]) -> None:
        for row, place in zip(rows.tolist(), places, strict=True):
            number = self._stretch[row]
            first = self._first[number]
            data = self._held[int(number)][self._begin[row] - first : self._end[row] - first]
            sound = NamedBytes(data, str(self._paths[row]))
            try:
                samples = decode(sound, *(times[row] for times in self._times))
                if len(samples) != self.lengths[row]:
                    counts = f"it has {len(samples)} samples, the manifest says {self.lengths[row]}"
                    raise AudioError(f"{sound.name}: {counts}")
            except AudioError as error:
                self.errors[self._keys[row]] = str(error)
                continue
            place[: len(samples)] = samples
