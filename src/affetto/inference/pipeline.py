"""Keeps every core busy in memory that does not grow: decode ahead, sort by length, compute.

A chunk of pieces is sorted by length and packed into batches of about equal seconds; while its batches are
computed, the next chunk is decoded. Decoding and the network run without the interpreter's lock, so threads
suffice; a device is used by one process alone. But threads wait for each other between two calls, for a fifth
of their time where files are short: with many clips, each core gets groups of them in a process of its own.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.inference.sources import Clip, Piece, Samples, Windows, cut, decoded, fault_of
from affetto.material.forward import InParts, batches_by_length, padded_length
from affetto.members import file_stamp
from affetto.parallel import Here, can_fork, cores, in_copies, keep_memory

CHUNK_PIECES, CHUNK_SECONDS = 512, 600.0  # that are sorted by length together, at most
BATCH_SECONDS = 24.0  # of sound, padding included, that go through the network at once
GROUP_CLIPS, GROUP_BYTES = 256, 8 << 20  # that a process takes at once: minutes, in any encoding
_LATER = "later"  # the fault of a clip that a process leaves to its parent
_CLIPS_TOGETHER = 4  # decoded by one task, since a task costs as much as decoding a tenth of a second
_TASKS_AHEAD, _MOST_WORKERS = 8, 8

Compute = Callable[[list[Piece]], Tensor | list[NDArray[np.float32]]]
"""Turns pieces that go together into one row each, ``(B, ...)``, or an array each."""

Computed = tuple[Piece, NDArray[Any] | None]
"""A piece, its samples gone, with its row; None for one with a fault, or that is left out."""

_Returned = tuple[float, float, str, bool, NDArray[Any] | None, dict[str, str]]
"""A piece as a process returns it: start, end, fault, last, row, and the notes on its clip."""


Engine = Callable[..., Iterator[tuple[list[Clip], list[list[_Returned]]]]]
"""Computes groups of clips elsewhere: takes the work, the groups, and what a clip that is lost gives."""


@dataclass(frozen=True)
class Plan:
    """How recordings go through a network."""

    windows: Windows = field(default_factory=Windows)
    workers: int | None = None  # threads or processes; None for one a core; 0 for this one, less exactly
    clips: int = 0  # how many there are, at least, where that is known
    chunk_seconds: float = CHUNK_SECONDS  # of sound that is held at once; fewer where results are large
    batch_seconds: float = BATCH_SECONDS
    decode: Callable[[Clip], Samples] | None = None  # called in a thread; None for decoded
    wanted: Callable[[Clip], bool] | None = None  # whether a decoded clip is computed; called in order
    engine: Engine | None = None  # what computes; None for this machine


def in_order(
    everything: Iterable[Clip], compute: Compute, plan: Plan, device: torch.device
) -> Iterator[Computed]:
    """Computes something for every piece of every clip, in the order of the clips, without gradients.

    ``compute`` is called from several threads, or on the CPU in several processes.
    """
    if plan.workers == 0:
        yield from _by_chunks(everything, compute, plan, Here())
        return
    keep_memory()
    if plan.engine is not None:
        yield from _by_processes(everything, compute, plan, plan.engine)
        return
    workers = plan.workers or min(_MOST_WORKERS, cores())
    many = plan.clips >= workers * GROUP_CLIPS and device.type == "cpu"
    if workers > 1 and many and can_fork():
        yield from _by_processes(everything, compute, plan, partial(in_copies, count=workers))
        return
    with _threads(workers) as pool:
        yield from _by_chunks(everything, compute, plan, pool)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Starts threads in which torch uses one core each; at the end, tasks that did not start are dropped."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "affetto", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def by_clip(computed: Iterable[Computed]) -> Iterator[list[Computed]]:
    """Yields the pieces of each clip together."""
    return (list(pieces) for _, pieces in groupby(computed, lambda each: each[0].clip))


def whole(pieces: list[Computed]) -> Computed:
    """Joins the pieces of a clip: the mean of their rows, weighted by length; None with a fault.

    Rows of NaN, of pieces without speech, do not count as long as there are others.
    """
    end, row = pieces[-1]
    faults = [piece.fault for piece, own in pieces if own is None and piece.fault]
    if faults:  # a recording of which a part is missing counts as one that cannot be read
        return end._replace(fault=faults[0]), None
    if row is None or len(pieces) == 1:
        return end, row
    weights = np.array([piece.end - piece.start for piece, _ in pieces])
    rows = np.stack([row for _, row in pieces if row is not None]).astype(np.float64)
    speech = ~np.isnan(rows).any(axis=1)
    kept = speech if speech.any() else ~speech
    return end._replace(start=pieces[0][0].start), np.average(rows[kept], axis=0, weights=weights[kept])


def padded(pieces: list[Piece], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the waveforms of pieces, ``(B, S)``, zero past their ends, and their lengths, ``(B,)``."""
    samples = [piece.samples for piece in pieces if piece.samples is not None]
    lengths = torch.tensor([len(each) for each in samples])
    waveforms = np.zeros((len(samples), padded_length(int(lengths.max()))), np.float32)
    for row, each in zip(waveforms, samples, strict=True):
        row[: len(each)] = each
    return torch.from_numpy(waveforms).to(device), lengths.to(device)


def _by_chunks(
    everything: Iterable[Clip], compute: Compute, plan: Plan, pool: Executor, later: bool = False
) -> Iterator[Computed]:
    @torch.inference_mode()
    def rows_of(pieces: list[Piece]) -> list[NDArray[np.float32]]:
        first = pieces[0].samples
        if exact and len(pieces) == 1 and first is not None and padded_length(len(first)) <= most / 2:
            rows = compute(pieces * 2)  # longer ones are always alone
        else:
            rows = compute(pieces)
        return (list(rows.cpu().numpy()) if isinstance(rows, Tensor) else rows)[: len(pieces)]

    exact, most = plan.workers != 0, plan.batch_seconds * SAMPLE_RATE
    in_parts = InParts(rows_of, reasons=True)

    def run(pieces: list[Piece]) -> list[NDArray[np.float32] | str]:
        rows = in_parts(pieces)
        pieces.clear()
        return rows

    waiting: deque[Iterator[Computed]] = deque()
    for chunk in _chunks(_pieces(everything, pool, plan, later), plan.chunk_seconds):
        places = [place for place, piece in enumerate(chunk) if piece.samples is not None]
        lengths = [padded_length(len(piece.samples)) for piece in chunk if piece.samples is not None]
        jobs = []
        for batch in batches_by_length(lengths, plan.batch_seconds, exact):
            own = [places[number] for number in batch.tolist()]
            jobs.append((own, pool.submit(run, [chunk[place] for place in own])))
        # The tasks alone hold the samples from here on, and let go of them one by one.
        waiting.append(_finished([piece._replace(samples=None) for piece in chunk], jobs))
        del chunk, jobs
        if len(waiting) > 1:
            yield from waiting.popleft()
    yield from chain.from_iterable(waiting)


def _finished(
    pieces: list[Piece], jobs: list[tuple[list[int], Future[list[NDArray[np.float32] | str]]]]
) -> Iterator[Computed]:
    rows: dict[int, NDArray[np.float32] | str] = {}
    for places, future in jobs:
        rows.update(zip(places, future.result(), strict=True))
    for place, piece in enumerate(pieces):
        row = rows.get(place)
        if isinstance(row, str):
            piece, row = piece._replace(fault=f"{piece.clip.file}: {row}"), None
        yield piece, row


def _by_processes(
    everything: Iterable[Clip], compute: Compute, plan: Plan, engine: Engine
) -> Iterator[Computed]:
    """Computes groups of clips in copies of this process, which leave long ones to it, or elsewhere."""
    later, plan = plan.engine is None, replace(plan, engine=None)

    def work(group: list[Clip]) -> list[list[_Returned]]:
        torch.set_num_threads(1)
        computed = _by_chunks(group, compute, plan, Here(), later)
        return [
            [
                (piece.start, piece.end, piece.fault, piece.last, row, piece.clip.notes)
                for piece, row in pieces
            ]
            for pieces in by_clip(computed)
        ]

    with _threads(plan.workers or min(_MOST_WORKERS, cores())) as own:
        for group, found in engine(work, _groups(everything), lost=_lost):
            for clip, pieces in zip(group, found, strict=True):
                for start, end, fault, last, row, notes in pieces:
                    if fault == _LATER:
                        yield from _by_chunks([clip], compute, plan, own)
                    else:
                        clip.notes.update(notes)
                        yield Piece(clip, start, end, None, fault, last), row


def _lost(clip: Clip) -> list[_Returned]:
    start = clip.start or 0.0
    fault = (
        f"{clip.file}: the process that read it was killed from outside, as happens where memory is short; "
        "cut it into parts, or drop its row"
    )
    return [(start, start, fault, True, None, {})]


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
    if not isinstance(clip.sound, os.PathLike):
        return len(clip.sound) if isinstance(clip.sound, bytes) else clip.sound[0].nbytes
    return max(0, file_stamp(os.fspath(clip.sound))[0])  # of a missing one, decoding says why


def _pieces(everything: Iterable[Clip], pool: Executor, plan: Plan, later: bool) -> Iterator[Piece]:
    """Yields the pieces of clips; the next few clips are being decoded meanwhile."""

    def decode_all(some: list[Clip]) -> list[Samples]:
        return [decode_one(clip) for clip in some]

    def decode_one(clip: Clip) -> Samples:
        try:
            return (plan.decode or decoded)(clip)
        except Exception as error:  # of one recording, which must not end what reads a million
            return fault_of(clip, error)

    iterator = iter(everything)
    waiting: deque[tuple[list[Clip], Future[list[Samples]]]] = deque()
    while True:
        while len(waiting) < _TASKS_AHEAD and (some := list(islice(iterator, _CLIPS_TOGETHER))):
            waiting.append((some, pool.submit(decode_all, some)))
        if not waiting:
            return
        some, future = waiting.popleft()
        results = future.result()
        del future
        results.reverse()
        for clip in some:
            samples = results.pop()  # so that nothing else holds them
            if plan.wanted and not isinstance(samples, str) and not plan.wanted(clip):
                samples = ""
            yield from cut(clip, _LATER if later and samples is None else samples, plan.windows)


def _chunks(pieces: Iterable[Piece], seconds: float) -> Iterator[list[Piece]]:
    """Gathers pieces, their samples copied into one array a chunk.

    Arrays that live long are kept apart from those that are freed soon, and are freed whole: else the heap
    is fragmented more with every file.
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
            piece = piece._replace(samples=slab[used : used + length])
        chunk.append(piece)
        used += length
    if chunk:
        yield chunk
