"""Copies of this process that share the cores."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar

Out = TypeVar("Out")


def cores() -> int:
    """Returns how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def can_fork() -> bool:
    """Whether this process can be copied as it is: on Linux, and not while other threads run."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def copies(count: int) -> Iterator[ProcessPoolExecutor]:
    """Starts ``count`` copies of this process (:func:`can_fork`), which end with it, however it ends.

    They inherit everything that it holds. At the end, tasks that did not start are dropped.
    """
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _begin)
    pool.submit(int)  # copies now, before the caller starts a thread, as a progress bar does
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Here(Executor):
    """Runs a task at once, in the calling thread."""

    def submit(self, task: Callable[..., Out], /, *given: Any, **named: Any) -> Future[Out]:
        """Runs a task and returns its future."""
        future: Future[Out] = Future()
        future.set_result(task(*given, **named))
        return future


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the parent, which stops its copies
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a copy whose parent was killed: it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
