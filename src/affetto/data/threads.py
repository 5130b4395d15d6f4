"""Threads that share the cores out among calls, and not within one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Starts threads whose operations torch does not split; nothing waits for tasks that nobody will read."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "affetto", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
