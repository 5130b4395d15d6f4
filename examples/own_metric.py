"""A metric of your own: its function, and one row of the table of metrics.

    python examples/own_metric.py evaluate runs/first

is the affetto command with one more metric in every report. In the package the function would be in a file of
``affetto/evaluation/``, the row in ``affetto/evaluation/metrics.py``.
"""

import numpy as np
from numpy.typing import NDArray

from affetto.__main__ import main
from affetto.evaluation import METRICS, Metric


def worst_recall_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Recall of the worst class that has rows: confusion matrices (..., K, K) -> (...)."""
    hits, rows = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1)
    return np.divide(hits, rows, out=np.ones_like(rows), where=rows > 0).min(-1)


METRICS["worst_recall"] = Metric(
    "worst recall", "recall of the class that is recognised worst", worst_recall_of
)

if __name__ == "__main__":
    main()
