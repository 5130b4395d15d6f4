"""The one loop that runs a frozen network over recordings, and threads for such networks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.audio import SAMPLE_RATE
from affetto.data import Store

Network = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]
"""Takes stacked utterances and their lengths; returns a vector each, ``(B, D)``, or frames and lengths."""

BATCH_SECONDS = 160.0
"""Seconds of speech that go through a frozen network at once, padding counted."""

_SORTED_TOGETHER = 2048  # utterances whose results wait in memory for their turn


def batches_by_length(
    lengths: Sequence[int] | NDArray[np.int64], seconds: float = BATCH_SECONDS
) -> Iterator[NDArray[np.int64]]:
    """Yields the places of utterances that go together, from their lengths ``(N,)`` in samples at 16 kHz.

    They are of similar length, and of about equal seconds a batch, padding counted.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * int(lengths[order[end]]) > seconds * SAMPLE_RATE:
            yield order[begin:end]
            begin = end


def run_over(
    network: Network,
    store: Store,
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    module: nn.Module | None = None,
    device: torch.device | str = "cpu",
    seconds: float = BATCH_SECONDS,
) -> Iterator[NDArray[np.float32]]:
    """Runs a network over some rows of a store, and yields vectors ``(D,)`` or frames ``(T, D)`` in order.

    Nothing is kept for gradients. Results leave the device a batch at a time.

    Args:
        network: what runs, on ``device``.
        store: the recordings: waveforms, or features of the network's front end.
        rows: row numbers in the store, ``(M,)``.
        lengths: samples of each of these rows, ``(M,)``, for :func:`batches_by_length`.
        module: is put in evaluation mode meanwhile, and back at the end.
        device: where the batches go.
        seconds: of a batch.
    """
    mode = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        for start in range(0, len(rows), _SORTED_TOGETHER):
            part = slice(start, start + _SORTED_TOGETHER)
            results: dict[int, NDArray[np.float32]] = {}
            for places in batches_by_length(lengths[part], seconds):
                values, counts = store.stack(rows[part][places])
                results.update(zip(places.tolist(), _results(network, values, counts, device), strict=True))
            for place in range(len(rows[part])):
                yield results.pop(place)
    finally:
        if module is not None:
            module.train(mode)


@torch.inference_mode()
def _results(
    network: Network, values: Tensor, lengths: Tensor, device: torch.device | str
) -> list[NDArray[np.float32]]:
    computed = network(values.to(device), lengths.to(device))
    if isinstance(computed, Tensor):
        return list(computed.float().cpu().numpy())
    frames, counts = computed
    return [row[:count] for row, count in zip(frames.float().cpu().numpy(), counts.tolist(), strict=True)]


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Starts threads in which torch uses one core each; at the end, tasks that did not start are dropped."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "affetto", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
