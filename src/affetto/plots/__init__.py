"""Figures: arrays in, a matplotlib ``Figure`` out; no pyplot, no global state, colour-blind-safe colours.

``title`` says what is shown; ``stamp`` is a word printed across the top of the figure
(``"speaker-dependent"``).
"""

from affetto.plots.scores import bars, confusion, enrolment_curve, label_curve, reliability
from affetto.plots.style import to_png
from affetto.plots.timeline import timeline
from affetto.plots.trends import agreement, loss_curves, score_along

__all__ = [
    "agreement",
    "bars",
    "confusion",
    "enrolment_curve",
    "label_curve",
    "loss_curves",
    "reliability",
    "score_along",
    "timeline",
    "to_png",
]
