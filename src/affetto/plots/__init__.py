"""Figures: arrays in, a matplotlib ``Figure`` out; no pyplot, no global state, colour-blind-safe colours.

``title`` says what is shown; ``stamp`` is a word printed across the top of the figure
(``"speaker-dependent"``).
"""

from affetto.plots.scores import (
    agreement,
    bars,
    confusion,
    enrolment_curve,
    label_curve,
    loss_curves,
    reliability,
    score_along,
    timeline,
)
from affetto.plots.style import to_png

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
