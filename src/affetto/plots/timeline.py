"""The predictions for a long recording over time."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from affetto.plots.style import blank, ink_on, look, open_axes


def timeline(
    starts: ArrayLike,
    ends: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    *,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws class probabilities over time, stacked to one, with the predicted label on a strip below.

    ``starts`` and ``ends`` are windows ``(W,)`` in seconds, rising; ``probabilities`` ``(W, K)``. Overlapping
    windows are drawn from midway to the one before to midway to the one after. ``stamp`` is printed on top.
    """
    begin, end, shares = (np.asarray(values, dtype=np.float64) for values in (starts, ends, probabilities))
    centres = (begin + end) / 2
    middle = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate([begin[:1], middle, end[-1:]])
    figure, (upper, strip) = blank(9.6, 3.9, title, stamp, 2, sharex=True, height_ratios=[5, 1])
    floor = np.zeros(len(shares))
    for number, label in enumerate(labels):
        colour, hatch = look(number)
        line = "white" if hatch else colour
        wide = {"align": "edge", "color": colour, "hatch": hatch, "edgecolor": line, "linewidth": 0}
        upper.bar(edges[:-1], shares[:, number], np.diff(edges), bottom=floor, label=label, **wide)
        floor = floor + shares[:, number]
    upper.set(ylim=(0, 1), xlim=(edges[0], edges[-1]), ylabel="probability")
    handles, names = upper.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.005, 0.5)}
    upper.legend(handles[::-1], names[::-1], frameon=False, fontsize=10, **place)
    _strip(strip, edges, shares.argmax(axis=1), labels)
    open_axes(upper, percent="y")
    open_axes(strip)
    return figure


def _strip(axes: Axes, edges: NDArray[np.float64], winners: NDArray[np.int64], labels: Sequence[str]) -> None:
    changes = np.flatnonzero(np.diff(winners)) + 1
    length = edges[-1] - edges[0]
    bounds = np.concatenate([[0], changes, [len(winners)]])
    for first, last in pairwise(bounds.tolist()):
        left, right, winner = edges[first], edges[last], int(winners[first])
        colour, hatch = look(winner)
        axes.axvspan(left, right, facecolor=colour, hatch=hatch, edgecolor="white", linewidth=1)
        if right - left > 0.0135 * length * len(labels[winner]):  # a narrower stretch cannot hold its name
            words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "color": ink_on(colour)}
            middle = (left + right) / 2
            axes.text(middle, 0.5, labels[winner], transform=axes.get_xaxis_transform(), **words)
    axes.set_yticks([])
    axes.set_xlabel("seconds")
    axes.set_ylabel("label", rotation=0, ha="right", va="center")
