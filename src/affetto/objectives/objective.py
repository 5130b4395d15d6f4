"""What every objective is: a module that owns its networks and turns a batch into named losses."""

from torch import Tensor, nn

from affetto.data import Batch


class Objective(nn.Module):
    """Turns a batch into named losses; the same names carry their weights and their curves.

    Attributes:
        needs: columns that the objective asks a batch for, each with the verb that makes it, so that a missing
            one is named before training starts.
        weights: a factor for each named loss; 1 where none is given.
    """

    needs: dict[str, str]
    weights: dict[str, float]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of a batch by name, each a scalar."""
        raise NotImplementedError  # abstract
