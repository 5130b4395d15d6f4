"""Vectors foretold: what a frozen network says of an utterance, from the encoder's vector of it.

Not in Ulgen et al. (2024). Clusters keep of a speaker-centred embedding which of a few groups it is in, and
similarities keep how it lies to the others of a batch; this task keeps the embedding itself.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from affetto.objectives.objective import Task, Views, mean_over_processes


class VectorTask(Task):
    """A linear layer from the encoder's vector to the column ``vector``; one minus the cosine between them.

    Args:
        dim: ``D``, size of the encoder's vectors.
        size: of the vectors that are foretold.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.needs = {"vector": "annotate speakers"}
        self.head = nn.Linear(dim, size)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        told = self.head(views.vectors).float()
        losses = 1 - F.cosine_similarity(told, views.columns["vector"], dim=1)
        return mean_over_processes(losses.sum(), losses.new_tensor(float(len(losses))))
