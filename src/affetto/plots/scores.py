"""Figures of scores, of losses over epochs, and of predictions over time."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from affetto.plots.style import COLOURS, FAINT, INK, blank, ink_on, look, open_axes, rows_down, score_line


def confusion(
    counts: ArrayLike, labels: Sequence[str], *, title: str = "", stamp: str | None = None
) -> Figure:
    """Draws a confusion matrix: share of each true class, with the count under it.

    ``counts`` ``(K, K)`` holds utterances, or their mean over seeds: a row a true class, a column a predicted
    one. A class without utterances is drawn grey and says so.
    """
    table = np.asarray(counts, dtype=np.float64)
    totals = table.sum(axis=1)
    shares = table / np.where(totals > 0, totals, np.nan)[:, None]
    side = max(4.4, 1.5 + 0.78 * len(labels))
    figure, axes = blank(side + 0.9, side, title, stamp)
    edges, shades = np.arange(len(labels) + 1) - 0.5, colormaps["Blues"].with_extremes(bad="#E8E8E8")
    lines = {"edgecolor": "white", "linewidth": 1.5}
    mesh = axes.pcolormesh(edges, edges, shares, cmap=shades, vmin=0, vmax=1 / 0.92, **lines)
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    for (row, column), share in np.ndenumerate(shares):
        if totals[row]:
            ink = {**centred, "color": ink_on(mesh.to_rgba(share))}
            weight = "bold" if row == column else "normal"
            axes.text(column, row - 0.1, f"{100 * share:.0f}%", fontsize=11, weight=weight, **ink)
            axes.text(column, row + 0.25, f"{table[row, column]:,.0f}", fontsize=7.5, **ink)
    for row in np.flatnonzero(totals == 0):
        axes.text(edges.mean(), row, "no test rows", fontsize=10, color="#444444", **centred)
    ticks = np.arange(len(labels))
    axes.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{label}\n({total:,.0f})" for label, total in zip(labels, totals, strict=True)])
    axes.set(ylim=edges[[-1, 0]], aspect="equal", xlabel="predicted", ylabel="true (utterances)")
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

    For each of the bins, of equal width over 0 to 1: mean ``confidence`` and ``accuracy``, the share of right
    predictions, NaN where empty, and ``counts``, its predictions. ``error`` is the expected calibration error
    as a fraction, printed in the figure.
    """
    means, right, sizes = (np.asarray(values, dtype=np.float64) for values in (confidence, accuracy, counts))
    figure, (upper, lower) = blank(5.2, 5.6, title, stamp, 2, sharex=True, height_ratios=[3.4, 1])
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
        open_axes(axes, percent="xy")
    return figure


def enrolment_curve(
    counts: Sequence[int | str], mixes: Mapping[str, ArrayLike], *, stamp: str | None = None
) -> Figure:
    """Draws UAR against the number of enrolment utterances, a line a mix of emotions.

    ``counts`` are the ``N`` numbers on the axis, e.g. ``(0, 5, 10, 20, "all")``; ``mixes`` value, low and
    high of each as fractions, ``(N, 3)``, NaN where not measured. The dashed line is the value without
    enrolment, which stands in the first mix: below it, enrolment hurts.
    """
    figure, axes = blank(6.2, 4.6, "", stamp)
    places = np.arange(len(counts), dtype=np.float64)
    for number, (mix, points) in enumerate(mixes.items()):
        scores = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        score_line(axes, places + 0.07 * (number - (len(mixes) - 1) / 2), scores, number, mix)
        if number == 0 and 0 in counts and np.isfinite(level := scores[list(counts).index(0), 0]):
            axes.axhline(level, linestyle="--", color=FAINT, linewidth=1.2, zorder=0)
    axes.set_xticks(places, [str(count) for count in counts])
    axes.set(xlim=(-0.5, len(counts) - 0.5), xlabel="enrolment utterances a speaker (not scored)")
    axes.set_ylabel("UAR")
    open_axes(axes, grid="y", percent="y")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], min_n_ticks=3))
    figure.legend(loc="outside lower center", ncols=min(4, len(mixes)), frameon=False, fontsize=10)
    return figure


def label_curve(
    fractions: Sequence[float], lines: Mapping[str, ArrayLike], *, stamp: str | None = None
) -> Figure:
    """Draws UAR against the share of labels, a line a method, with intervals.

    ``fractions`` are the ``N`` shares, rising, set out evenly; ``lines`` value, low and high of each as
    fractions, ``(N, 3)``, NaN where not measured.
    """
    figure, axes = blank(8.0, 4.6, "", stamp)
    places = np.arange(len(fractions), dtype=np.float64)
    for number, (name, scores) in enumerate(lines.items()):
        # All lines of a share within a third of the way to the next.
        score_line(axes, places + 0.33 * ((number + 0.5) / len(lines) - 0.5), scores, number, name)
    axes.set_xticks(places, [f"{100 * fraction:g} %" for fraction in fractions])
    axes.set(xlabel="share of the training labels", ylabel="UAR")
    open_axes(axes, percent="y")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def bars(
    names: Sequence[str], values: ArrayLike, lows: ArrayLike, highs: ArrayLike, *, stamp: str | None = None
) -> Figure:
    """Draws UAR, one bar a row, the first on top; ends of the intervals, NaN for none; all ``(N,)``."""
    scores, low, high = (np.asarray(numbers, dtype=np.float64) for numbers in (values, lows, highs))
    figure, axes = blank(8.4, 1.3 + 0.42 * len(names), "", stamp)
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
    rows_down(axes, names)
    axes.set(xlim=(0, min(1.09, max(float(np.nanmax(tips)), 0.1) + 0.09)), xlabel="UAR")
    open_axes(axes, percent="x")
    return figure


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
