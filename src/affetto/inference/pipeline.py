"""Keeps every core busy in memory that does not grow: decode ahead, sort by length, score.

A chunk of pieces is sorted by length and packed into batches of about equal seconds; while its batches are
scored, the next chunk is decoded. Decoding, resampling and the network all work outside the interpreter's
lock, so that threads do, and a device is used by one process alone. Threads still wait for each other
between two calls, for a fifth of their time where files are short: of many clips, each core takes groups in
a process of its own. What comes out has the order of what went in.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.errors import AffettoError
from affetto.inference.sources import Clip, Piece, cut, decoded
from affetto.parallel import Here, can_fork, cores, processes, threads

CHUNK_PIECES = 512
"""Pieces that are sorted by length together."""

CHUNK_SECONDS = 600.0
"""Seconds of sound that a chunk holds at most, unless one piece is longer."""

BATCH_SECONDS = 24.0
"""Seconds of sound, padding included, that go through the network at once (at least one piece)."""

GROUP_CLIPS = 256
"""Clips that a process takes at once, at most."""

GROUP_BYTES = 8 << 20
"""Bytes of recordings that it takes at once, unless one clip has more: minutes, however they are encoded."""

_KEPT = ((-3, 32 << 20), (-1, 512 << 20))
"""Of mallopt(3): M_MMAP_THRESHOLD and M_TRIM_THRESHOLD."""

_LATER = "later"  # the fault of a clip that a process leaves to its parent
_CLIPS_TOGETHER = 4  # decoded by one task, since a task costs as much as decoding a tenth of a second
_TASKS_AHEAD = 8
_MOST_WORKERS = 8

Compute = Callable[[list[Piece]], Tensor | list[NDArray[np.float32]]]
"""Turns pieces that go together into one row each, ``(B, ...)``, or an array each."""

Rows = NDArray[np.float32] | list[NDArray[np.float32]]
Computed = tuple[Piece, NDArray[np.float32] | None]
_Job = tuple[list[int], Future[Rows]]
_Told = tuple[int, float, float, str, bool, NDArray[np.float32] | None]
"""What a process says of a piece: place of its clip in the group, start, end, fault, last, row."""

Item = TypeVar("Item")


def in_order(
    everything: Iterable[Clip],
    compute: Compute,
    window: float | None = None,
    hop: float | None = None,
    workers: int | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    count: int = 0,
) -> Iterator[Computed]:
    """Computes something of every piece of every clip.

    Args:
        everything: the clips; looked at as they are needed.
        compute: called from several threads, or in several processes.
        window: length of a piece in seconds; see :func:`~affetto.inference.sources.cut`.
        hop: seconds from one window to the next.
        workers: threads or processes; None for one a core, at most 8.
        chunk_seconds: seconds of sound that are held at once; fewer where what is computed takes much room.
        count: how many clips there are, at least, where that is known and the processor does the computing.

    Yields:
        Each piece, its samples gone, with its row; None for one with a fault.

    Raises:
        AffettoError: when a process was stopped from outside.
    """
    keep_memory()
    workers = workers or min(_MOST_WORKERS, cores())
    if workers > 1 and count >= workers * GROUP_CLIPS and can_fork():
        yield from _by_processes(everything, compute, window, hop, workers, chunk_seconds)
        return
    with threads(workers) as pool:
        yield from _by_chunks(everything, compute, window, hop, pool, chunk_seconds)


def _by_chunks(
    everything: Iterable[Clip],
    compute: Compute,
    window: float | None,
    hop: float | None,
    pool: Executor,
    chunk_seconds: float,
    later: bool = False,
) -> Iterator[Computed]:
    waiting: deque[tuple[list[Piece], list[_Job]]] = deque()
    for chunk in _chunks(_pieces(everything, pool, window, hop, later), chunk_seconds):
        jobs = [
            (batch, pool.submit(_run, compute, [chunk[place] for place in batch])) for batch in batches(chunk)
        ]
        # The tasks alone hold the samples from here on, and let go of them one by one.
        waiting.append(([_with(piece, None) for piece in chunk], jobs))
        del chunk, jobs
        if len(waiting) > 1:
            yield from _finished(*waiting.popleft())
    while waiting:
        yield from _finished(*waiting.popleft())


def _by_processes(
    everything: Iterable[Clip],
    compute: Compute,
    window: float | None,
    hop: float | None,
    workers: int,
    chunk_seconds: float,
) -> Iterator[Computed]:
    """Has groups of clips done by copies of this process; what is long is done here, as it comes."""

    def work(group: list[Clip]) -> list[_Told]:
        place = {clip: number for number, clip in enumerate(group)}
        return [
            (place[piece.clip], piece.start, piece.end, piece.fault, piece.last, row)
            for piece, row in _by_chunks(group, compute, window, hop, Here(), chunk_seconds, later=True)
        ]

    groups = _groups(everything)
    waiting: deque[tuple[list[Clip], Future[list[_Told]]]] = deque()
    with processes(workers, _begin, (work,)) as pool, threads(workers) as own:
        while True:
            while len(waiting) < 2 * workers and (group := next(groups, None)):
                waiting.append((group, pool.submit(_do, group)))
            if not waiting:
                return
            group, future = waiting.popleft()
            try:
                told = future.result()
            except BrokenProcessPool as error:
                raise AffettoError(
                    "a process that computed was stopped from outside, as happens when memory is short; make "
                    "room, or take fewer workers, and run the same command again: it goes on where it stopped"
                ) from error
            del future
            for place, start, end, fault, last, row in told:
                if fault == _LATER:
                    yield from _by_chunks([group[place]], compute, window, hop, own, chunk_seconds)
                else:
                    yield Piece(group[place], start, end, None, fault, last), row


def _groups(everything: Iterable[Clip]) -> Iterator[list[Clip]]:
    group: list[Clip] = []
    size = 0
    for clip in everything:
        own = _bytes(clip)
        if group and (len(group) == GROUP_CLIPS or size + own > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(clip)
        size += own
    if group:
        yield group


def _bytes(clip: Clip) -> int:
    """Returns about how many bytes a clip has: those of its file, or of its part as 16 bits at 16 kHz."""
    if clip.end is not None:
        return round(2 * SAMPLE_RATE * (clip.end - (clip.start or 0.0)))
    if isinstance(clip.sound, tuple):
        return clip.sound[0].nbytes
    if isinstance(clip.sound, bytes):
        return len(clip.sound)
    try:
        return os.stat(clip.sound).st_size
    except (OSError, ValueError):  # decoding says why
        return 0


_WORK: list[Callable[[list[Clip]], list[_Told]]] = []  # in a process that takes groups: what it does


def _begin(work: Callable[[list[Clip]], list[_Told]]) -> None:
    torch.set_num_threads(1)
    _WORK[:] = [work]


def _do(group: list[Clip]) -> list[_Told]:
    return _WORK[0](group)


def batches(pieces: list[Piece]) -> Iterator[list[int]]:
    """Yields the places of pieces that go together: of similar length, about equal seconds with padding."""
    lengths = [0 if piece.samples is None else len(piece.samples) for piece in pieces]
    order = sorted((place for place, length in enumerate(lengths) if length), key=lengths.__getitem__)
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * lengths[place] > BATCH_SECONDS * SAMPLE_RATE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def stacked(pieces: list[Piece]) -> tuple[Tensor, Tensor]:
    """Returns the waveforms of pieces, ``(B, S)``, zero past their ends, and their lengths, ``(B,)``."""
    samples = [piece.samples for piece in pieces if piece.samples is not None]
    lengths = torch.tensor([len(each) for each in samples])
    waveforms = np.zeros((len(samples), int(lengths.max())), np.float32)
    for row, each in zip(waveforms, samples, strict=True):
        row[: len(each)] = each
    return torch.from_numpy(waveforms), lengths


@cache
def keep_memory() -> None:
    """Has the C library keep memory that is freed, for the rest of the process; does nothing without glibc.

    It would give every array of some hundred kilobytes back to the system, and ask for a new one, which the
    system has to clear; with several threads these also wait for each other there.
    """
    try:
        limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for kind, size in _KEPT:
        limit(kind, size)


def _pieces(
    everything: Iterable[Clip], pool: Executor, window: float | None, hop: float | None, later: bool
) -> Iterator[Piece]:
    for some, future in _ahead(everything, pool):
        results = future.result()
        del future
        results.reverse()
        for clip in some:
            samples = results.pop()
            yield from cut(clip, _LATER if later and samples is None else samples, window, hop)


def _ahead(
    everything: Iterable[Clip], pool: Executor
) -> Iterator[tuple[list[Clip], Future[list[NDArray[np.float32] | str | None]]]]:
    """Yields a few clips at a time, with their decoded samples; the next are being decoded meanwhile."""
    iterator = iter(everything)
    waiting: deque[tuple[list[Clip], Future[list[NDArray[np.float32] | str | None]]]] = deque()
    while True:
        while len(waiting) < _TASKS_AHEAD and (some := list(islice(iterator, _CLIPS_TOGETHER))):
            waiting.append((some, pool.submit(_decode, some)))
        if not waiting:
            return
        yield waiting.popleft()


def _decode(some: list[Clip]) -> list[NDArray[np.float32] | str | None]:
    return [decoded(clip) for clip in some]


def _chunks(pieces: Iterable[Piece], seconds: float = CHUNK_SECONDS) -> Iterator[list[Piece]]:
    """Gathers pieces, their samples copied into one array a chunk.

    What lives long lies apart from what comes and goes, and is given back whole: else the heap grows full of
    holes with the number of files.
    """
    room = round(seconds * SAMPLE_RATE)
    chunk: list[Piece] = []
    slab, used = np.empty(0, np.float32), 0
    for piece in pieces:
        length = 0 if piece.samples is None else len(piece.samples)
        if chunk and (len(chunk) == CHUNK_PIECES or used + length > room):
            yield chunk
            chunk, used = [], 0
        if not chunk:
            slab = np.empty(max(room, length), np.float32)
        if piece.samples is not None:
            slab[used : used + length] = piece.samples
            piece = _with(piece, slab[used : used + length])
        chunk.append(piece)
        used += length
    if chunk:
        yield chunk


def _with(piece: Piece, samples: NDArray[np.float32] | None) -> Piece:
    """Returns the piece with other samples, at a tenth of what ``dataclasses.replace`` takes."""
    return Piece(piece.clip, piece.start, piece.end, samples, piece.fault, piece.last)


def _run(compute: Compute, pieces: list[Piece]) -> Rows:
    computed = compute(pieces)
    pieces.clear()
    return computed.cpu().numpy() if isinstance(computed, Tensor) else computed


def _finished(pieces: list[Piece], jobs: list[_Job]) -> Iterator[tuple[Piece, NDArray[np.float32] | None]]:
    rows: dict[int, NDArray[np.float32]] = {}
    for batch, future in jobs:
        rows.update(zip(batch, future.result(), strict=True))
    for place, piece in enumerate(pieces):
        yield piece, rows.get(place)
