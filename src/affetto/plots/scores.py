"""What a recogniser is worth: confusion, reliability, the enrolment curve, scores side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from affetto.plots.style import COLOURS, FAINT, INK, blank, head, ink_on, look, open_axes

_MARKERS = "os^Dv<>PX*hp"
_LINES = ("#D55E00", "#009E73", "#CC79A7", "#0072B2")
_GRID = "#E3E3E3"


def confusion(
    counts: ArrayLike, labels: Sequence[str], *, title: str = "", stamp: str | None = None
) -> Figure:
    """Draws a confusion matrix: share of each true class, with the count under it.

    Args:
        counts: (K, K) utterances, a row a true class, a column a predicted one; may be means over seeds.
        labels: the K class names in order.
        title: what is shown.
        stamp: a word printed across the top.

    A class without utterances is drawn grey and says so.
    """
    table = np.asarray(counts, dtype=np.float64)
    totals = table.sum(axis=1)
    side = max(4.4, 1.5 + 0.78 * len(labels))
    figure, axes = blank(side + 0.9, side, title, stamp)
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    for row, total in enumerate(totals):
        for column, count in enumerate(table[row]):
            share = count / total if total else 0.0
            fill: Any = colormaps["Blues"](0.92 * share) if total else "#E8E8E8"
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor="white", linewidth=1.5))
            if total:
                look = {**centred, "color": ink_on(fill)}
                weight = "bold" if row == column else "normal"
                axes.text(column, row - 0.1, f"{100 * share:.0f}%", fontsize=11, weight=weight, **look)
                axes.text(column, row + 0.25, f"{count:,.0f}", fontsize=7.5, **look)
        if not total:
            middle = (len(labels) - 1) / 2
            axes.text(middle, row, "no test rows", fontsize=10, color="#444444", **centred)
    ticks = np.arange(len(labels))
    axes.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{label}\n({total:,.0f})" for label, total in zip(labels, totals, strict=True)])
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), aspect="equal")
    axes.set(xlabel="predicted", ylabel="true (utterances)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability(
    confidence: ArrayLike,
    accuracy: ArrayLike,
    counts: ArrayLike,
    *,
    error: float | None = None,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws how often predictions of a given confidence are right.

    Args:
        confidence: mean confidence of each bin, NaN where the bin is empty.
        accuracy: share of right predictions in each bin, NaN where empty.
        counts: predictions in each bin; bins are of equal width over 0..1.
        error: expected calibration error as a fraction, printed in the figure.
        title: what is shown.
        stamp: a word printed across the top.
    """
    means, right, sizes = (np.asarray(values, dtype=np.float64) for values in (confidence, accuracy, counts))
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    head(figure, title, stamp)
    width, filled = 1 / len(sizes), sizes > 0
    centres = (np.arange(len(sizes)) + 0.5) * width
    columns = {"color": COLOURS[4], "edgecolor": "white", "label": "share that is right"}
    upper.bar(centres[filled], right[filled], 0.92 * width, **columns)
    upper.plot([0, 1], [0, 1], linestyle="--", color=FAINT, linewidth=1.3, label="perfectly calibrated")
    dots = {"color": COLOURS[3], "markersize": 5, "label": "at the bin's mean confidence"}
    upper.plot(means[filled], right[filled], "o", **dots)
    upper.set(ylim=(0, 1.02), xlim=(0, 1), ylabel="share that is right")
    upper.legend(loc="upper left", fontsize=9, frameon=False)
    if error is not None:
        text = f"calibration error {100 * error:.1f} %"
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 3}
        upper.text(0.97, 0.05, text, transform=upper.transAxes, ha="right", fontsize=10, color=INK, bbox=box)
    lower.bar(centres, sizes / max(sizes.sum(), 1), 0.92 * width, color=FAINT, edgecolor="white")
    lower.set(xlabel="confidence", ylabel="utterances")
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        open_axes(axes)
    return figure


def enrolment_curve(
    counts: Sequence[int | str],
    mixes: Mapping[str, ArrayLike],
    *,
    metric: str = "UAR",
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws a score against the number of enrolment utterances, a line a mix of emotions.

    Args:
        counts: the N numbers on the axis in order, e.g. ``(0, 5, 10, 20, "all")``.
        mixes: name -> (N, 3) value, low, high as fractions; NaN where not measured (an interval may be NaN by
            itself). The value without enrolment stands in the first one.
        metric: name of the score.
        title: what is shown.
        stamp: a word printed across the top.

    The dashed line is the value without enrolment; below it, enrolment hurts.
    """
    figure, axes = blank(6.2, 4.6, title, stamp)
    places = np.arange(len(counts), dtype=np.float64)
    for number, (mix, points) in enumerate(mixes.items()):
        values, lows, highs = np.asarray(points, dtype=np.float64).reshape(-1, 3).T
        at = places + 0.07 * (number - (len(mixes) - 1) / 2)
        known = np.isfinite(values)
        spread = known & np.isfinite(lows) & np.isfinite(highs)
        colour = COLOURS[number % len(COLOURS)]
        axes.vlines(at[spread], lows[spread], highs[spread], color=colour, alpha=0.45, linewidth=2)
        style: dict[str, Any] = {
            "marker": "osD^vPX*"[number % 8],
            "markersize": 6,
            "linewidth": 1.4 if number else 2.4,
        }
        axes.plot(at[known], values[known], color=colour, label=mix, **style)
        if number == 0 and 0 in counts and np.isfinite(values[list(counts).index(0)]):
            axes.axhline(values[list(counts).index(0)], linestyle="--", color=FAINT, linewidth=1.2, zorder=0)
    axes.set_xticks(places, [str(count) for count in counts])
    axes.set(xlim=(-0.5, len(counts) - 0.5), ylabel=metric)
    axes.set_xlabel("enrolment utterances a speaker (not scored)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], min_n_ticks=3))
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_axes(axes)
    figure.legend(loc="outside lower center", ncols=min(4, len(mixes)), frameon=False, fontsize=10)
    return figure


def label_curve(
    fractions: Sequence[float],
    lines: Mapping[str, ArrayLike],
    *,
    metric: str = "UAR",
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws a score against the share of labels, a line a method, with intervals.

    Args:
        fractions: the N shares, rising; they are set out evenly.
        lines: method -> ``(N, 3)`` value, low, high as fractions of 1; NaN where not measured.
        metric: name of the score.
        title: what is shown.
        stamp: a word printed across the top.
    """
    figure, axes = blank(8.0, 4.6, title, stamp)
    places = np.arange(len(fractions), dtype=np.float64)
    for number, (name, values) in enumerate(lines.items()):
        value, low, high = 100 * np.asarray(values, np.float64).T
        # All lines of a share within a third of the way to the next.
        shifted = places + 0.33 * ((number + 0.5) / len(lines) - 0.5)
        colour, marker = look(number)[0], _MARKERS[number % len(_MARKERS)]
        style = "-" if number < len(COLOURS) else "--"
        bars = [value - low, high - value]
        axes.errorbar(shifted, value, bars, color=colour, marker=marker, ls=style, capsize=2, label=name)
    axes.set_xticks(places, [f"{100 * fraction:g} %" for fraction in fractions])
    axes.set_xlabel("share of the training labels")
    axes.set_ylabel(f"{metric}, %")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def bars(
    names: Sequence[str],
    values: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    *,
    metric: str = "UAR",
    references: Mapping[str, float] | None = None,
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws one bar a row with its interval, the first row on top.

    Args:
        names: the N row names.
        values: (N,) scores as fractions.
        lows: (N,) lower ends of the intervals, NaN for none.
        highs: (N,) upper ends.
        metric: name of the score.
        references: name -> value of vertical lines, e.g. published figures or chance.
        title: what is shown.
        stamp: a word printed across the top.
    """
    scores, low, high = (np.asarray(numbers, dtype=np.float64) for numbers in (values, lows, highs))
    lines = dict(references or {})
    figure, axes = blank(8.4, 1.3 + 0.42 * len(names) + 0.24 * len(lines), title, stamp)
    places = np.arange(len(names))
    axes.barh(places, scores, height=0.62, color=COLOURS[4], edgecolor="none")
    spread = np.isfinite(low) & np.isfinite(high)
    axes.hlines(places[spread], low[spread], high[spread], color=INK, linewidth=1.6)
    for ends in (low, high):
        axes.vlines(ends[spread], places[spread] - 0.14, places[spread] + 0.14, color=INK, linewidth=1.6)
    tips = np.where(spread, np.fmax(high, scores), scores)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for place, (score, tip) in enumerate(zip(scores, tips, strict=True)):
        text = f"{100 * score:.1f}"
        axes.text(tip + 0.012, place, text, color=INK, ha="left", va="center", fontsize=10, bbox=box)
    for number, (name, value) in enumerate(lines.items()):
        style: dict[str, Any] = {
            "linestyle": ("--", ":", "-.")[number % 3],
            "color": _LINES[number % 4],
            "linewidth": 1.6,
        }
        axes.axvline(value, label=f"{name}: {100 * value:.1f}", **style)
    if lines:
        columns = 2 if len(lines) > 1 else 1
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(0, min(1.09, max(float(np.nanmax(tips)), *lines.values(), 0.1) + 0.09))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(metric)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    open_axes(axes)
    return figure
