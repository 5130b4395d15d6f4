"""The one loop that runs a frozen network over recordings."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.audio import SAMPLE_RATE
from affetto.data import Store
from affetto.data.loader import ahead
from affetto.errors import AffettoError
from affetto.models.encoder import Encoder

Network = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]
"""Takes stacked utterances and their lengths; returns a vector each, ``(B, D)``, or frames and lengths."""

BATCH_SECONDS = 160.0
"""Seconds of speech that go through a frozen network at once on a CPU at most, padding counted."""

_GPU_BATCHES = 4  # a GPU computes so many at once

_TOO_SMALL = (
    "the device has not enough memory for a single recording; take --device cpu, or cut long recordings into "
    "shorter ones"
)
_PAD_TO = SAMPLE_RATE // 4
_SORTED_TOGETHER = 2048  # utterances whose results wait in memory for their turn


def padded_length(samples: int) -> int:
    """Returns the samples that a recording is padded to, a multiple of 0.25 s.

    On a CPU a recording's answer is the same to the last bit whatever goes through the network with it, as
    long as all have one padded length and there are at least two: sums over more padding round in another
    way, and so does a network that gets a single recording. So a run that is continued, or shared by several
    machines, gives what one run gives.
    """
    return -(-samples // _PAD_TO) * _PAD_TO


def batches_by_length(
    lengths: Sequence[int] | NDArray[np.int64], seconds: float = BATCH_SECONDS, equal: bool = False
) -> Iterator[NDArray[np.int64]]:
    """Yields the places of utterances that go together, from their lengths ``(N,)`` in samples at 16 kHz.

    They are of similar length, or of ``equal`` length, and of about equal seconds a batch, padding counted.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        other = end == len(order) or (equal and lengths[order[end]] != lengths[order[begin]])
        if other or (end + 1 - begin) * int(lengths[order[end]]) > seconds * SAMPLE_RATE:
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
) -> Iterator[NDArray[np.float32]]:
    """Runs a network over some rows of a store, and yields vectors ``(D,)`` or frames ``(T, D)`` in order.

    Nothing is kept for gradients. Batches are read ahead; results leave the device a batch at a time.

    Args:
        network: what runs.
        store: the recordings: waveforms, or features of the network's front end.
        rows: row numbers in the store, ``(M,)``.
        lengths: samples of each of these rows, ``(M,)``, for :func:`batches_by_length`.
        module: holds its weights; is put in evaluation mode meanwhile, and back at the end.
        device: where its weights are and batches go.
    """
    module, device = nn.Identity() if module is None else module, torch.device(device)
    mode = module.training
    module.eval()
    own = [part.batch_seconds for part in module.modules() if isinstance(part, Encoder)]
    seconds = min([BATCH_SECONDS, *own]) if device.type == "cpu" else _GPU_BATCHES * BATCH_SECONDS
    compute = InParts(lambda values, counts: _results(network, values, counts, device))
    try:
        for start in range(0, len(rows), _SORTED_TOGETHER):
            part = slice(start, start + _SORTED_TOGETHER)
            results: dict[int, NDArray[np.float32]] = {}
            todo = list(batches_by_length(lengths[part], seconds))
            with closing(ahead(store.stack, [rows[part][places] for places in todo])) as batches:
                for places, batch in zip(todo, batches, strict=True):
                    results.update(zip(places.tolist(), compute(*batch), strict=True))
            for place in range(len(rows[part])):
                yield results.pop(place)
    finally:
        module.train(mode)


class InParts:
    """Calls ``compute``, which returns a result an item, with a batch, or where memory is short with parts.

    The number of parts stays for the batches that follow. With ``reasons``, an item that is too large even
    alone has the reason as its result.
    """

    def __init__(self, compute: Callable[..., Sequence[Any]], reasons: bool = False) -> None:
        self.compute, self.reasons, self.parts = compute, reasons, 1

    def __call__(self, *batch: Any) -> list[Any]:
        """Returns the results of a batch: sequences or tensors of one length.

        Raises:
            AffettoError: where the memory is too small for one item.
        """
        results: list[Any] = []
        while len(results) < len(batch[0]):
            size = -(-len(batch[0]) // self.parts)
            part = [each[len(results) : len(results) + size] for each in batch]
            try:
                results.extend(self.compute(*part))
                continue
            except (MemoryError, RuntimeError) as error:  # the latter of torch, on a GPU and on the CPU
                short = isinstance(error, torch.OutOfMemoryError | MemoryError)
                if not short and "can't allocate memory" not in str(error):
                    raise
                if size == 1 and not self.reasons:
                    raise AffettoError(_TOO_SMALL) from error
            if size == 1:
                results.append(_TOO_SMALL)
                self.parts = 1
                continue
            self.parts *= 2
            print(f"not enough memory for {size} recordings at once: batches are halved", file=sys.stderr)
        return results


@torch.inference_mode()
def _results(
    network: Network, values: Tensor, lengths: Tensor, device: torch.device
) -> list[NDArray[np.float32]]:
    computed = network(values.to(device), lengths.to(device))
    if isinstance(computed, Tensor):
        return list(computed.float().cpu().numpy())
    frames, counts = computed
    return [row[:count] for row, count in zip(frames.float().cpu().numpy(), counts.tolist(), strict=True)]
