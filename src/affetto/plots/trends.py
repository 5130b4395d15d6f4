"""Losses over epochs, a score against a quantity, predictions against the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affetto.plots.style import COLOURS, FAINT, blank, look, open_axes, score_line

_WIDTH = 4.6


def loss_curves(losses: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draws losses over epochs: a panel a loss, a line a training.

    ``losses`` maps the loss to the training to the mean of each epoch, ``(epochs,)``.
    """
    names = list(dict.fromkeys(name for lines in losses.values() for name in lines))
    figure, panels = blank(_WIDTH * len(losses) + 2.5, 3.8, "", None, 1, len(losses), squeeze=False)
    handles = {}
    for axes, (loss, lines) in zip(panels[0], losses.items(), strict=True):
        for name, values in lines.items():
            number, means = names.index(name), np.asarray(values, np.float64)
            style = "-" if number < len(COLOURS) else "--"
            at = np.arange(len(means)) + 1
            [handles[name]] = axes.plot(at, means, style, color=look(number)[0], marker=".")
        axes.set_title(loss, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        open_axes(axes, grid="y")
    panels[0, 0].set_ylabel("loss, mean over the epoch")
    shown = [handles[name] for name in names]
    figure.legend(shown, names, loc="outside right center", frameon=False, fontsize=9)
    return figure


def score_along(
    places: Sequence[float], values: ArrayLike, *, axis: str, level: tuple[str, float] | None = None
) -> Figure:
    """Draws UAR against a quantity, with intervals.

    ``places`` are the ``N`` values of the quantity that ``axis`` names, ``values`` ``(N, 3)`` are value, low
    and high as fractions; ``level`` is the name and score of a horizontal line.
    """
    figure, axes = blank(6.4, 4.2, "", None)
    order = np.argsort(places)
    score_line(axes, np.asarray(places)[order], np.asarray(values, np.float64)[order], 0)
    if level is not None:
        axes.axhline(level[1], color=FAINT, linestyle="--")
        at = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(level[0], (0.99, level[1]), **at)
    axes.set(xlabel=axis, ylabel="UAR")
    open_axes(axes, percent="y")
    return figure


def agreement(
    truth: ArrayLike, predicted: ArrayLike, names: Sequence[str], *, stamp: str | None = None
) -> Figure:
    """Draws predictions ``(N, K)`` against the truth, a panel a dimension, darker for more utterances."""
    figure, panels = blank(0.4 + 3.6 * len(names), 4.1, "", stamp, 1, len(names), squeeze=False)
    columns = (np.asarray(values, np.float64).T for values in (truth, predicted))
    for axes, name, true, values in zip(panels[0], names, *columns, strict=True):
        low = float(min(true.min(), values.min()))
        high = max(float(true.max()), float(values.max()), low + 1e-6)
        axes.hexbin(true, values, gridsize=24, cmap="Blues", mincnt=1, linewidths=0)
        axes.plot([low, high], [low, high], color=FAINT, linestyle="--", linewidth=1)
        axes.set(title=name, xlabel="raters")
        open_axes(axes)
    panels[0, 0].set_ylabel("predicted")
    return figure
