"""The contracts of objectives and tasks, and losses over the batches of several processes.

With one process the functions over processes return what they were given.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.errors import ConfigError
from affetto.models.encoder import Encoder, Frames


def _processes() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def gathered(values: Tensor) -> Tensor:
    """Joins the rows ``(B, ...)`` of all processes in the order of their ranks; ``B`` may differ.

    Gradients flow back to the process that a row came from.
    """
    if _processes() == 1:
        return values
    gather: Any = _Gather.apply  # which some versions of torch type
    return torch.as_tensor(gather(values, _counts(values)))


def own_rows(values: Tensor) -> slice:
    """Returns where the rows of this process are in what :func:`gathered` makes of them."""
    if _processes() == 1:
        return slice(0, len(values))
    start = sum(_counts(values)[: torch.distributed.get_rank()])
    return slice(start, start + len(values))


def mean_over_processes(total: Tensor, weight: Tensor) -> Tensor:
    """Returns a sum of losses over their sum of weights, such that its average over processes is exact.

    Distributed training averages gradients as if every process had the same share of a batch. Where shares
    differ, by one utterance or by class weights, only this makes several processes equal to one.
    """
    weight = weight.detach()
    if _processes() > 1:
        weight = weight.clone()
        torch.distributed.all_reduce(weight)
    return total * _processes() / weight.clamp_min(1e-6)


def mean_loss(losses: Tensor) -> Tensor:
    """Returns the mean of the losses ``(B,)`` of all processes, every item with the same weight."""
    return mean_over_processes(losses.sum(), losses.new_full((), len(losses)))


def _counts(values: Tensor) -> list[int]:
    own = torch.tensor([len(values)], device=values.device)
    counts = [torch.zeros_like(own) for _ in range(_processes())]
    torch.distributed.all_gather(counts, own)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    # torch.distributed.nn.functional.all_gather is deprecated since 2.13, and what replaces it is private.

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int]) -> Tensor:
        rank = torch.distributed.get_rank()
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = F.pad(values, (0, 0) * (values.ndim - 1) + (0, max(counts) - len(values))).contiguous()
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total[ctx.own], None


class Objective(nn.Module):
    """Its ``forward`` turns a :class:`~affetto.data.Batch` into losses by name, each a scalar."""

    weights: dict[str, float]  # a factor for each loss, 1 where none is given


@dataclass(frozen=True)
class Views:
    """Two views of each utterance of a batch, the first views before the second ones; or one of each."""

    vectors: Tensor  # one a view, (2 B, D)
    frames: Frames  # of the encoder
    features: Tensor  # what the encoder read, before anything was hidden, (2 B, T, F)
    lengths: Tensor  # feature frames in each, (2 B,)
    index: Tensor  # row numbers in the manifest, (2 B,)
    columns: dict[str, Tensor]  # of the batch, once for each view


class Task(nn.Module):
    """One pretraining loss of several, with a head of its own; ``forward`` turns :class:`Views` into it."""


def feature_frames(encoder: Encoder) -> int:
    """Returns how many feature frames one frame of an encoder stands for; refuses one that reads samples."""
    if encoder.front_end.kind == "waveform":
        raise ConfigError(
            "got an encoder that reads samples; frames can be rebuilt for one that reads spectra, e.g. "
            "encoder.name=mockingjay"
        )
    return round(encoder.hop_seconds / encoder.front_end.frame_seconds)


def mean_distance(rebuilt: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """Returns the mean absolute error over the chosen frames of all processes; 0 where there are none.

    Args:
        rebuilt: ``(B, T', F)``, or ``(B, T' / stack, stack F)``, several frames in one.
        target: ``(B, T, F)``; frames past the shorter of the two are left out.
        chosen: ``(B, T)`` bool.
    """
    rebuilt = rebuilt.reshape(len(target), -1, target.shape[2])
    frames = min(rebuilt.shape[1], target.shape[1])
    errors = F.l1_loss(rebuilt[:, :frames].float(), target[:, :frames].float(), reduction="none").mean(2)
    chosen = chosen[:, :frames]
    # A product would carry NaN from padding into the sum.
    return mean_over_processes(errors.masked_fill(~chosen, 0.0).sum(), chosen.float().sum())
