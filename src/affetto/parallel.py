"""Copies of this process that share the cores, and the memory that a process keeps."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import connection
from typing import Any, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
_KEPT = ((-3, 32 << 20), (-1, 512 << 20))  # of mallopt(3): M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
_WORK: list[Callable[[list[Any]], list[Any]]] = []  # set before the processes, which inherit it


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
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _begin)
    pool.submit(int)  # copies now, before the caller starts a thread, as a progress bar does
    try:
        yield pool
    except BaseException:  # Ctrl-C, or an error of the caller
        for copy in multiprocessing.active_children():  # each may be busy for a minute
            if copy not in others:
                copy.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_copies(
    work: Callable[[list[In]], list[Out]], groups: Iterable[list[In]], count: int, lost: Callable[[In], Out]
) -> Iterator[tuple[list[In], list[Out]]]:
    """Computes groups of items in copies of this process; yields each with a result an item, in order.

    A group whose process is killed, as happens where memory is short, is computed again while no other is,
    and then by halves: an item that kills its process even alone gets the result ``lost(item)``.
    """
    _WORK[:] = [work]
    groups = iter(groups)
    waiting: deque[tuple[list[In], Future[list[Out]]]] = deque()
    while True:
        with copies(count) as pool:
            while True:
                while len(waiting) < 2 * count and (group := next(groups, None)) is not None:
                    waiting.append((group, _submitted(pool, group)))
                if not waiting:
                    return
                try:
                    results = waiting[0][1].result()
                except BrokenProcessPool:
                    break
                yield waiting.popleft()[0], results
        while waiting:
            group, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                results = _again(group, lost)
            yield group, results


def _submitted(pool: Executor, group: list[In]) -> "Future[list[Out]]":
    try:
        return pool.submit(_work, group)
    except BrokenProcessPool as error:
        future: Future[list[Out]] = Future()
        future.set_exception(error)
        return future


def _work(group: list[Any]) -> list[Any]:
    return _WORK[0](group)


def _again(group: list[In], lost: Callable[[In], Out]) -> list[Out]:
    """Computes a group in a process of its own, or where that is killed too, each half."""
    with suppress(BrokenProcessPool), copies(1) as pool:
        return list(pool.submit(_work, group).result())
    if len(group) == 1:
        return [lost(group[0])]
    middle = len(group) // 2
    return _again(group[:middle], lost) + _again(group[middle:], lost)


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


@cache
def keep_memory() -> None:
    """Makes the C library keep freed memory for the rest of the process; does nothing without glibc.

    It would return every array of some hundred kilobytes to the system and ask for a new one, which the
    system has to clear; several threads also wait for each other there.
    """
    try:
        limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for kind, size in _KEPT:
        limit(kind, size)
