"""Dimensional emotion: one minus the concordance between predictions and ratings."""

from torch import Tensor

from affetto.data import Batch
from affetto.objectives.distributed import gathered
from affetto.objectives.supervised import Supervised

_TINY = 1e-6


class Regress(Supervised):
    """One minus the concordance of a classifier's scores with standardised ratings, over the batch.

    A batch holds the column ``target (B, K)``; the output of the classifier is ``"values"``.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"concordance": loss}``: one minus its mean over dimensions, over all processes."""
        vectors, targets = self.embedded(batch, batch.columns["target"])
        scores = self.classifier.scores(vectors)
        return {"concordance": 1 - concordance(gathered(scores), gathered(targets)).mean()}


def concordance(predicted: Tensor, truth: Tensor) -> Tensor:
    """Returns the concordance of each column of ``predicted`` and ``truth``, both ``(B, K)``: ``(K,)``.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility". Columns that do not vary
    at all have none, and count as 0.
    """
    predicted, truth = predicted.float(), truth.float()
    gap = predicted.mean(0) - truth.mean(0)
    left, right = predicted - predicted.mean(0), truth - truth.mean(0)
    shared = (left * right).mean(0)
    return 2 * shared / ((left**2).mean(0) + (right**2).mean(0) + gap**2 + _TINY)
