"""Several objectives on one encoder, each with its own way of looking at a batch."""

from collections.abc import Sequence

from torch import Tensor, nn

from affetto.data import Batch
from affetto.models.encoder import Encoder
from affetto.objectives.objective import Objective


class Together(Objective):
    """Asks each objective for its losses; the encoder learns from all of them.

    Contrastive learning on two views and the rebuilding of hidden frames read the same utterances in ways
    that do not fit into one pass, so the encoder runs once for each objective.

    Args:
        encoder: what all of them hold.
        objectives: whose losses have different names.
    """

    def __init__(self, encoder: Encoder, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.encoder, self.objectives = encoder, nn.ModuleList(objectives)
        self.needs = {column: verb for one in objectives for column, verb in one.needs.items()}
        self.weights = {name: weight for one in objectives for name, weight in one.weights.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of all objectives by name."""
        return {name: loss for one in self.objectives for name, loss in one(batch).items()}
