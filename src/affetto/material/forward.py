"""The one loop that runs a frozen network over recordings."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

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
    seconds: float = BATCH_SECONDS,
) -> Iterator[NDArray[np.float32]]:
    """Runs a network over some rows of a store, and yields vectors ``(D,)`` or frames ``(T, D)`` in order.

    Nothing is kept for gradients. Results leave the device a batch at a time.

    Args:
        network: what runs.
        store: the recordings: waveforms, or features of the network's front end.
        rows: row numbers in the store, ``(M,)``.
        lengths: samples of each of these rows, ``(M,)``, for :func:`batches_by_length`.
        module: holds its weights, on the device that batches then go to; is put in evaluation mode
            meanwhile, and back at the end.
        seconds: of a batch.
    """
    module = nn.Identity() if module is None else module
    weights = chain(module.parameters(), module.buffers())
    device = next((weight.device for weight in weights), torch.device("cpu"))
    mode = module.training
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
        module.train(mode)


@torch.inference_mode()
def _results(
    network: Network, values: Tensor, lengths: Tensor, device: torch.device
) -> list[NDArray[np.float32]]:
    computed = network(values.to(device), lengths.to(device))
    if isinstance(computed, Tensor):
        return list(computed.float().cpu().numpy())
    frames, counts = computed
    return [row[:count] for row, count in zip(frames.float().cpu().numpy(), counts.tolist(), strict=True)]
