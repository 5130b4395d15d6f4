"""The threads that compute: recordings that wait are put together, and long ones make way."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from affetto.errors import AffettoError
from affetto.inference import Enrolment, Recogniser
from affetto.inference.pipeline import Plan
from affetto.inference.sources import Clip, Windows
from affetto.parallel import keep_memory
from affetto.serving.limits import Limits, busy
from affetto.tables import Row

_TOGETHER = 4  # jobs
_SHORT = 10.0  # seconds of sound of a job that others are put together with
_CHUNK_SECONDS = 30.0  # of a long recording, after which those that wait get their turn
_LOG = logging.getLogger("uvicorn.error")


@dataclass(eq=False)
class Job:
    """Clips that a recogniser is to predict, or something else to call, and the future of what it gives."""

    recogniser: Recogniser
    clips: list[Clip]
    windows: Windows
    seconds: float = 0.0
    enrolments: dict[str, Enrolment] = field(default_factory=dict)  # by a clip's speaker
    call: Callable[[], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    abandoned: bool = False  # whether its client is gone

    @property
    def key(self) -> object:
        """What jobs that are computed together share; None for one that is computed alone."""
        together = self.call is None and self.seconds <= _SHORT
        return (self.windows, self.recogniser, bool(self.enrolments)) if together else None


class Jobs:
    """Some threads, in each of which torch uses one core, and the jobs that wait for them."""

    def __init__(self, workers: int) -> None:
        keep_memory()
        self._waiting: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._changed, self._ended = threading.Condition(), False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, urgent: bool = False) -> Future[Any]:
        """Computes a job when a thread is free; urgent ones come first."""
        with self._changed:
            (self._urgent if urgent else self._waiting).append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Ends the threads; what waits is cancelled."""
        with self._changed:
            self._ended = True
            for job in (*self._urgent, *self._waiting):
                job.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        torch.set_num_threads(1)
        while batch := self._next():
            self._run(batch)
            del batch  # so that nothing is held while there is nothing to do

    def _next(self, wait: bool = True) -> list[Job]:
        """Returns jobs to compute together, none at the end; without ``wait`` only short ones, or none."""
        with self._changed:
            while not self._ended:
                for queue in (self._urgent, self._waiting):
                    while queue and (wait or queue[0].key is not None):
                        first = queue.popleft()
                        if first.future.set_running_or_notify_cancel():
                            return [first, *self._alike(queue, first)]
                if not wait:
                    break
                self._changed.wait()
        return []

    def _alike(self, queue: deque[Job], first: Job) -> list[Job]:
        found: list[Job] = []
        seconds = first.seconds
        while queue and first.key is not None and queue[0].key == first.key:
            seconds += queue[0].seconds
            if len(found) + 1 == _TOGETHER or seconds > 2 * _SHORT:
                break
            job = queue.popleft()
            if job.future.set_running_or_notify_cancel():
                found.append(job)
        return found

    def _run(self, batch: list[Job]) -> None:
        try:
            results = [batch[0].call()] if batch[0].call else self._rows(batch)
        except Exception as error:
            if len(batch) > 1:  # no request fails by another one's fault
                for job in batch:
                    self._run([job])
                return
            if not isinstance(error, AffettoError):
                _LOG.exception("a request failed")
            batch[0].future.set_exception(error)
        else:
            for job, result in zip(batch, results, strict=True):
                job.future.set_result(result)

    def _rows(self, batch: list[Job]) -> list[list[Row]]:
        clips = [clip for job in batch for clip in job.clips]
        enrolments = {key: own for job in batch for key, own in job.enrolments.items()}
        plan = Plan(batch[0].windows, workers=0, chunk_seconds=_CHUNK_SECONDS)
        found: dict[Clip, list[Row]] = {clip: [] for clip in clips}
        rows = batch[0].recogniser.rows(clips, plan, enrolments or None, speakers=True)
        for piece, row in rows:
            found[piece.clip].append(row)
            if all(job.abandoned for job in batch):
                raise AffettoError("no client waits for this")
            if batch[0].key is None and (others := self._next(wait=False)):
                self._run(others)
        return [[row for clip in job.clips for row in found[clip]] for job in batch]


class Room:
    """How many uploads may be in progress or wait at once."""

    def __init__(self, limits: Limits) -> None:
        self._most, self._taken = limits.waiting, 0
        self._seconds, self._last = 0.1, 0.0  # from one request to the next, and when the last one ended

    def __enter__(self) -> None:
        if self._taken >= self._most:
            seconds = min(self._seconds * self._taken, 60.0)
            raise busy(f"{self._taken} requests are in progress; try again later", seconds)
        self._taken += 1

    def __exit__(self, *exception: object) -> None:
        self._taken -= 1
        now = time.monotonic()
        self._seconds, self._last = 0.9 * self._seconds + 0.1 * min(now - self._last, 1.0), now
