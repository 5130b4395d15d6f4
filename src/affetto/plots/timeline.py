"""What a recogniser heard in a long recording, over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from affetto.plots.style import head, ink_on, look, open_axes


def timeline(
    starts: ArrayLike,
    ends: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    *,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws class probabilities over time, stacked to one, with the winning label on a strip below.

    Args:
        starts: (W,) start of each window in seconds, rising.
        ends: (W,) end of each window in seconds.
        probabilities: (W, K) rows that sum to one.
        labels: the K class names.
        title: what is shown.
        stamp: a word printed across the top.

    Overlapping windows are drawn from midway to the one before to midway to the one after.
    """
    begin, end, shares = (np.asarray(values, dtype=np.float64) for values in (starts, ends, probabilities))
    centres = (begin + end) / 2
    middle = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate([begin[:1], middle, end[-1:]])
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    upper, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    head(figure, title, stamp)
    floor = np.zeros(len(shares))
    for number, label in enumerate(labels):
        colour, hatch = look(number)
        line = "white" if hatch else colour
        wide = {"align": "edge", "color": colour, "hatch": hatch, "edgecolor": line, "linewidth": 0}
        upper.bar(edges[:-1], shares[:, number], np.diff(edges), bottom=floor, label=label, **wide)
        floor = floor + shares[:, number]
    upper.set(ylim=(0, 1), xlim=(edges[0], edges[-1]), ylabel="probability")
    upper.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    upper.legend(
        *_reversed_legend(upper), loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=10
    )
    winners = shares.argmax(axis=1)
    changes = np.flatnonzero(np.diff(winners)) + 1
    length = edges[-1] - edges[0]
    for first, last in zip(
        np.concatenate([[0], changes]), np.concatenate([changes, [len(winners)]]), strict=True
    ):
        left, right = edges[first], edges[last]
        colour, hatch = look(int(winners[first]))
        strip.axvspan(left, right, facecolor=colour, hatch=hatch, edgecolor="white", linewidth=1)
        label = labels[winners[first]]
        if right - left > 0.0135 * length * len(label):  # a narrower stretch cannot hold its name
            ink = ink_on(colour)
            strip.text(
                (left + right) / 2,
                0.5,
                label,
                ha="center",
                va="center",
                fontsize=10,
                color=ink,
                transform=strip.get_xaxis_transform(),
            )
    strip.set_yticks([])
    strip.set_xlabel("seconds")
    strip.set_ylabel("label", rotation=0, ha="right", va="center")
    for axes in (upper, strip):
        open_axes(axes)
    return figure


def _reversed_legend(axes: Axes) -> tuple[list[Any], list[Any]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]
