"""``--engine ray``: groups of recordings go to the workers of a Ray cluster, each of which keeps the network.

Rows come back in order and are written by the process that was started, as those of local processes are: what
was written is kept, and the same command goes on after anything was killed. The recordings have to be at the
same paths on every machine.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from affetto.models.hub import optional

In = TypeVar("In")
Out = TypeVar("Out")

_AHEAD = 3  # groups a worker that are sent before the first is needed
_TRIES = 1  # again, of a group whose worker was killed, before it is halved
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


class OnRay:
    """Computes groups on a Ray cluster: that of ``RAY_ADDRESS``, else one of this machine.

    Args:
        workers: how many; None for one for each core, or for each share of a GPU, of the cluster.
        gpus: the share of a GPU that a worker takes; 0 for none.

    Raises:
        MissingPackageError: with the line that installs Ray.
    """

    def __init__(self, workers: int | None = None, gpus: float = 0.0) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self.workers, self.gpus = workers, gpus
        self._ray = optional("ray", "--engine ray", "'affetto[ray]'")

    def __call__(
        self, work: Callable[[list[In]], list[Out]], groups: Iterable[list[In]], lost: Callable[[In], Out]
    ) -> Iterator[tuple[list[In], list[Out]]]:
        """Yields each group with a result an item, in order.

        A worker that is killed is started again, and its group is tried again, and then by halves: an item
        that ends its worker even alone gets the result ``lost(item)``.
        """
        ray, own = self._ray, not self._ray.is_initialized()
        if own:
            ray.init(log_to_driver=False, logging_level="ERROR")
        try:
            have = ray.cluster_resources()
            most = have.get("GPU", 0.0) / self.gpus if self.gpus else have.get("CPU", 1.0)
            options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": -1, "max_task_retries": _TRIES}
            kept, kind = ray.put(work), ray.remote(**options)(_Worker)
            workers = [kind.remote(kept) for _ in range(self.workers or max(1, int(most)))]
            yield from self._in_order(workers, iter(groups), lost)
        finally:
            if own:
                ray.shutdown()

    def _in_order(
        self, workers: list[Any], groups: Iterator[list[In]], lost: Callable[[In], Out]
    ) -> Iterator[tuple[list[In], list[Out]]]:
        waiting: deque[tuple[list[In], Any]] = deque()
        running: dict[Any, int] = {}
        while True:
            while len(waiting) < _AHEAD * len(workers) and (group := next(groups, None)) is not None:
                done = self._ray.wait([*running], num_returns=len(running), timeout=0)[0] if running else ()
                running = {task: place for task, place in running.items() if task not in done}
                busy = Counter(running.values())
                place = min(range(len(workers)), key=lambda number: busy[number])
                task = workers[place].run.remote(group)
                running[task] = place
                waiting.append((group, task))
            if not waiting:
                return
            group, task = waiting.popleft()
            yield group, self._result(task, group, workers[0], lost)

    def _result(self, task: Any, group: list[In], worker: Any, lost: Callable[[In], Out]) -> list[Out]:
        """Returns the results of a task; halves the group where its worker was killed at every try."""
        try:
            return list(self._ray.get(task))
        except self._ray.exceptions.RayActorError:
            if len(group) == 1:
                return [lost(group[0])]
        middle = len(group) // 2
        halves = (group[:middle], group[middle:])
        return [
            found for half in halves for found in self._result(worker.run.remote(half), half, worker, lost)
        ]


class _Worker:
    """Holds the work, and with it the network, on a machine of the cluster."""

    def __init__(self, work: Callable[[list[Any]], list[Any]]) -> None:
        torch.set_num_threads(1)
        self._work = work

    def run(self, group: list[Any]) -> list[Any]:
        """Computes a group."""
        return self._work(group)
