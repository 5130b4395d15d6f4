"""What a probe reads from each layer of an encoder."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from affetto.plots.style import COLOURS, FAINT, head, open_axes

_MARKERS = "osD^v"
_DASHES = ("--", ":", "-.")


def layers(
    lines: Mapping[str, ArrayLike],
    sums: Mapping[str, float],
    weights: Mapping[str, ArrayLike],
    *,
    metric: str = "UAR",
    chance: float | None = None,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws a score against the layer, a line an encoder, and below how much a learned sum takes of each.

    Args:
        lines: encoder -> ``(L, 3)`` value, low, high of the probe on each layer alone, as fractions of 1;
            ends may be NaN.
        sums: encoder -> value of the probe on the weighted sum: a horizontal line.
        weights: encoder -> ``(L,)`` the sum's weights.
        metric: name of the score.
        chance: value of another horizontal line.
        title: what is shown.
        stamp: a word printed across the top.
    """
    count = len(np.asarray(next(iter(lines.values()))))
    figure = Figure(figsize=(max(6.4, 2.6 + 0.5 * count), 5.4), layout="constrained")
    head(figure, title, stamp)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    places = np.arange(count, dtype=np.float64)
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        value, low, high = np.asarray(points, np.float64).T
        shift = 0.12 * (number - (len(lines) - 1) / 2)
        upper.vlines(places + shift, low, high, color=colour, alpha=0.6, linewidth=2)
        upper.plot(places + shift, value, color=colour, marker=_MARKERS[number % len(_MARKERS)], label=name)
        if name in sums:
            dash = _DASHES[number % len(_DASHES)]
            upper.axhline(
                sums[name], color=colour, linestyle=dash, linewidth=1.4, label=f"{name}, weighted sum"
            )
        if name in weights:
            wide = 0.8 / max(1, len(weights))
            middle = places + wide * (number - (len(weights) - 1) / 2)
            lower.bar(middle, np.asarray(weights[name], np.float64), 0.92 * wide, color=colour)
    if chance is not None:
        upper.axhline(chance, color=FAINT, linewidth=1, label="chance")
    upper.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    upper.set_ylabel(metric)
    upper.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    upper.set_axisbelow(True)
    lower.set_xticks(places, [str(number) for number in range(count)])
    lower.set_xlabel("layer, 0 is nearest to the sound")
    lower.set_ylabel("weight in the sum")
    lower.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (upper, lower):
        open_axes(axes)
    figure.legend(
        *upper.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9.5
    )
    return figure
