"""Losses over epochs, a score against a quantity, predictions against the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affetto.plots.style import COLOURS, FAINT, blank, head, look, open_axes

_WIDTH = 4.6


def loss_curves(
    losses: Mapping[str, Mapping[str, ArrayLike]], *, title: str = "", stamp: str | None = None
) -> Figure:
    """Draws losses over epochs: a panel a loss, a line a training.

    ``losses`` maps the loss to the training to the mean of each epoch, ``(epochs,)``.
    """
    names = list(dict.fromkeys(name for lines in losses.values() for name in lines))
    figure = Figure(figsize=(_WIDTH * len(losses) + 2.5, 3.8), layout="constrained")
    head(figure, title, stamp)
    panels = figure.subplots(1, len(losses), squeeze=False)[0]
    handles = {}
    for axes, (loss, lines) in zip(panels, losses.items(), strict=True):
        open_axes(axes)
        for name, values in lines.items():
            number = names.index(name)
            style = "-" if number < len(COLOURS) else "--"
            epochs = range(1, len(list(values)) + 1)  # type: ignore[arg-type]
            [handles[name]] = axes.plot(epochs, values, style, color=look(number)[0], marker=".")
        axes.set_title(loss, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=FAINT, alpha=0.25)
    panels[0].set_ylabel("loss, mean over the epoch")
    ordered = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in ordered], ordered, loc="outside right center", frameon=False, fontsize=9
    )
    return figure


def score_along(
    places: Sequence[float],
    values: ArrayLike,
    *,
    axis: str,
    level: tuple[str, float] | None = None,
    metric: str = "UAR",
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws a score against a quantity, with intervals.

    ``places`` are the ``N`` values of the quantity that ``axis`` names, ``values`` ``(N, 3)`` are value, low
    and high as fractions; ``level`` is the name and score of a horizontal line.
    """
    figure, axes = blank(6.4, 4.2, title, stamp)
    order = np.argsort(np.asarray(places, np.float64))
    value, low, high = 100 * np.asarray(values, np.float64)[order].T
    bars = np.nan_to_num([value - low, high - value])  # one test speaker makes no interval
    axes.errorbar(np.asarray(places, np.float64)[order], value, bars, marker="o", capsize=3)
    if level is not None:
        axes.axhline(100 * level[1], color=FAINT, linestyle="--")
        axes.annotate(
            level[0], (0.99, 100 * level[1]), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes.set_xlabel(axis)
    axes.set_ylabel(f"{metric}, %")
    return figure


def agreement(
    truth: ArrayLike,
    predicted: ArrayLike,
    names: Sequence[str],
    *,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws predictions ``(N, K)`` against the truth, a panel a dimension, darker for more utterances."""
    true, values = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    figure = Figure(figsize=(0.4 + 3.6 * len(names), 4.1), layout="constrained")
    head(figure, title, stamp)
    for number, (axes, name) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True)
    ):
        both = np.concatenate([true[:, number], values[:, number]])
        low, high = float(both.min()), max(float(both.max()), float(both.min()) + 1e-6)
        axes.hexbin(true[:, number], values[:, number], gridsize=24, cmap="Blues", mincnt=1, linewidths=0)
        axes.plot([low, high], [low, high], color=FAINT, linestyle="--", linewidth=1)
        axes.set(title=name, xlabel="raters", ylabel="predicted" if number == 0 else "")
        open_axes(axes)
    return figure
