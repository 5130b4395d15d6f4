"""Decodes, recognises and embeds utterances, each in threads, in the order of the manifest."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affetto.annotation.speakers import SpeakerEncoder
from affetto.annotation.vector_log import VectorLog, identity
from affetto.audio import SAMPLE_RATE, decode, from_int16, to_int16
from affetto.corpora.arrays import content_hash
from affetto.corpora.manifest import Manifest
from affetto.errors import AudioError
from affetto.parallel import cores, threads

POOL_UTTERANCES = 512
"""Utterances that are sorted by length together."""

POOL_SECONDS = 1200.0
"""Seconds of sound that such a pool holds at most, unless one utterance is longer."""

_DECODED_AHEAD = 64
_MOST_WORKERS = 8


class Utterance(NamedTuple):
    """A row of a manifest: where its sound is, what tells its state from others, and its key."""

    path: Path
    start: float | None
    end: float | None
    identity: str
    key: str


def utterances(manifest: Manifest) -> list[Utterance]:
    """Returns the rows of a manifest.

    Raises:
        ManifestError: for a file that lies outside the root of its corpus.
    """
    starts, ends = (
        [None if np.isnan(value) else float(value) for value in manifest.table[name].to_numpy(float)]
        for name in ("start", "end")
    )
    return [
        Utterance(path, start, end, identity(path, start, end), key)
        for path, start, end, key in zip(manifest.paths, starts, ends, manifest.keys, strict=True)
    ]


class _Pool(NamedTuple):
    """Utterances that are on their way together."""

    utterances: list[tuple[Utterance, str]]  # with their hashes, or faults
    fresh: list[str]  # hashes that are new, in order
    jobs: list[tuple[list[int], Future[NDArray[np.float32]]]]  # places in fresh
    known: dict[int, NDArray[np.float32]]


class Embedding:
    """The work of embedding utterances.

    Args:
        encoder: what embeds them.
        log: where the vectors go.
        known: vectors that need not be computed, by content hash.
        workers: threads; None for one a core, at most 8.

    Attributes:
        faults: why an utterance has no vector, by key.
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        log: VectorLog,
        known: Mapping[str, NDArray[np.float32]],
        workers: int | None = None,
    ) -> None:
        self.encoder, self.log, self.known = encoder, log, known
        self.workers = workers or min(_MOST_WORKERS, cores())
        self.faults: dict[str, str] = {}
        self._seen = set(log.row)

    def through(self, todo: Sequence[Utterance]) -> Iterator[None]:
        """Yields once for every utterance that is through."""
        rest = [each for each in todo if each.identity not in self.log.hash_of]
        yield from (None for _ in range(len(todo) - len(rest)))
        with threads(self.workers) as executor:
            waiting: deque[_Pool] = deque()
            for pool in _pools(rest, executor):
                waiting.append(self._submitted(pool, executor))
                if len(waiting) > 1:  # the next pool is being decoded and embedded meanwhile
                    yield from self._stored(waiting.popleft())
            while waiting:
                yield from self._stored(waiting.popleft())

    def _submitted(
        self, pool: list[tuple[Utterance, NDArray[np.int16] | str]], executor: ThreadPoolExecutor
    ) -> _Pool:
        listed: list[tuple[Utterance, str]] = []
        fresh: list[str] = []
        known: dict[int, NDArray[np.float32]] = {}
        unheard: dict[int, NDArray[np.int16]] = {}
        for each, samples in pool:
            if isinstance(samples, str):
                self.faults[each.key] = samples
                listed.append((each, ""))
                continue
            hashed = content_hash(samples)
            listed.append((each, hashed))
            if hashed in self._seen:
                continue
            self._seen.add(hashed)
            if hashed in self.known:
                known[len(fresh)] = self.known[hashed]
            else:
                unheard[len(fresh)] = samples
            fresh.append(hashed)
        places = list(unheard)
        jobs = []
        for batch in self.encoder.batches([len(unheard[place]) for place in places]):
            own = [places[number] for number in batch]
            jobs.append((own, executor.submit(self._embed, [unheard[place] for place in own])))
        return _Pool(listed, fresh, jobs, known)

    def _embed(self, samples: list[NDArray[np.int16]]) -> NDArray[np.float32]:
        return self.encoder.embed([from_int16(each) for each in samples])

    def _stored(self, pool: _Pool) -> Iterator[None]:
        vectors = np.empty((len(pool.fresh), self.encoder.dim), np.float32)
        for place, vector in pool.known.items():
            vectors[place] = vector
        for places, job in pool.jobs:
            vectors[places] = job.result()
        fine = np.asarray(np.isfinite(vectors).all(axis=1))
        kept = [hashed for hashed, finite in zip(pool.fresh, fine.tolist(), strict=True) if finite]
        there = {*kept, *(hashed for _, hashed in pool.utterances if hashed in self.log.row)}
        through = {each.identity: hashed for each, hashed in pool.utterances if hashed in there}
        self.log.append(kept, vectors[fine], through)
        for each, hashed in pool.utterances:
            if hashed and hashed not in there:
                self.faults[each.key] = f"{each.path}: {self.encoder.name} gives no finite embedding"
            yield


def _pools(
    rest: Sequence[Utterance], executor: ThreadPoolExecutor
) -> Iterator[list[tuple[Utterance, NDArray[np.int16] | str]]]:
    """Decodes utterances ahead, and gathers those that are sorted by length together."""
    pool: list[tuple[Utterance, NDArray[np.int16] | str]] = []
    seconds = 0.0
    iterator = iter(rest)
    waiting: deque[tuple[Utterance, Future[NDArray[np.int16] | str]]] = deque()
    while True:
        for each in islice(iterator, _DECODED_AHEAD - len(waiting)):
            waiting.append((each, executor.submit(_decoded, each)))
        if not waiting:
            break
        utterance, decoding = waiting.popleft()
        samples = decoding.result()
        pool.append((utterance, samples))
        seconds += 0.0 if isinstance(samples, str) else len(samples) / SAMPLE_RATE
        if len(pool) == POOL_UTTERANCES or seconds > POOL_SECONDS:
            yield pool
            pool, seconds = [], 0.0
    if pool:
        yield pool


def _decoded(utterance: Utterance) -> NDArray[np.int16] | str:
    try:
        return to_int16(decode(utterance.path, utterance.start, utterance.end))
    except AudioError as error:
        return str(error)
