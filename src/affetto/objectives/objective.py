"""What every objective is: a module that owns its networks and turns a batch into named losses."""

import torch.distributed
from torch import Tensor, nn

from affetto.data import Batch


class Objective(nn.Module):
    """Turns a batch into named losses; the same names carry their weights and their curves.

    Attributes:
        needs: columns that the objective asks a batch for, each with the verb that makes it, so that a
            missing one is named before training starts.
        weights: a factor for each named loss; 1 where none is given.
    """

    needs: dict[str, str]
    weights: dict[str, float]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of a batch by name, each a scalar."""
        raise NotImplementedError  # abstract


def mean_over_processes(total: Tensor, weight: Tensor) -> Tensor:
    """Returns ``total / weight`` such that its average over processes is the ratio of the sums over them.

    Processes average their gradients as if each had the same share of a batch. Where shares differ, by one
    utterance or by the weights of their classes, only this makes several processes equal one.

    Args:
        total: a process's sum of losses, a scalar that carries the gradient.
        weight: the sum of weights that it was made with, a scalar.
    """
    weight = weight.detach()
    processes = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        processes = torch.distributed.get_world_size()
        weight = weight.clone()
        torch.distributed.all_reduce(weight)
    return total * processes / weight.clamp_min(1e-6)
