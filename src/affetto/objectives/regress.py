"""Dimensional emotion: one minus the concordance between what is told and what raters said."""

from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.objectives.objective import Supervised, gathered

_TINY = 1e-6


class Regress(Supervised):
    """Draws a classifier's scores to standardised values, by their concordance in the batch.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility". A batch holds the column
    ``target (B, K)``.

    Args:
        classifier: the network to train; its output is ``"values"``.
        augment: see :class:`Supervised`.
        reads: what the batches hold.
    """

    def __init__(
        self, classifier: EmotionClassifier, augment: AugmentConfig, reads: Reads = "waveforms"
    ) -> None:
        super().__init__(classifier, augment, reads)
        self.needs = {"target": "scan"}
        self.weights = {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"concordance": loss}``: one minus its mean over dimensions, over all processes."""
        vectors, targets = self.embedded(batch, batch.columns["target"])
        scores = self.classifier.scores(vectors)
        return {"concordance": 1 - concordance(gathered(scores), gathered(targets)).mean()}


def concordance(told: Tensor, truth: Tensor) -> Tensor:
    """Returns Lin's concordance of each column of ``told`` and ``truth``, both ``(B, K)``: ``(K,)``.

    Columns that do not vary at all have none, and count as 0.
    """
    told, truth = told.float(), truth.float()
    gap = told.mean(0) - truth.mean(0)
    left, right = told - told.mean(0), truth - truth.mean(0)
    shared = (left * right).mean(0)
    return 2 * shared / ((left**2).mean(0) + (right**2).mean(0) + gap**2 + _TINY)
