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
    shades = colormaps["Blues"]
    for row, total in enumerate(totals):
        for column, count in enumerate(table[row]):
            share = count / total if total else 0.0
            fill: Any = shades(0.92 * share) if total else "#E8E8E8"
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.5)
            )
            ink = ink_on(fill)
            if total:
                bold = "bold" if row == column else "normal"
                axes.text(
                    column,
                    row - 0.1,
                    f"{100 * share:.0f}%",
                    ha="center",
                    va="center",
                    fontsize=11,
                    color=ink,
                    weight=bold,
                )
                axes.text(
                    column, row + 0.25, f"{count:,.0f}", ha="center", va="center", fontsize=7.5, color=ink
                )
        if not total:
            axes.text(
                (len(labels) - 1) / 2,
                row,
                "no test rows",
                ha="center",
                va="center",
                fontsize=10,
                color="#444444",
            )
    ticks = np.arange(len(labels))
    axes.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{label}\n({total:,.0f})" for label, total in zip(labels, totals, strict=True)])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (utterances)")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
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
    width = 1 / len(sizes)
    filled = sizes > 0
    centres = (np.arange(len(sizes)) + 0.5) * width
    upper.bar(
        centres[filled],
        right[filled],
        0.92 * width,
        color=COLOURS[4],
        edgecolor="white",
        label="share that is right",
    )
    upper.plot([0, 1], [0, 1], linestyle="--", color=FAINT, linewidth=1.3, label="perfectly calibrated")
    upper.plot(
        means[filled],
        right[filled],
        "o",
        color=COLOURS[3],
        markersize=5,
        label="at the bin's mean confidence",
    )
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
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    metric: str = "UAR",
    stamp: str | None = None,
) -> Figure:
    """Draws a score against the number of enrolment utterances, a line a mix, a panel a way of enrolling.

    Args:
        counts: the N numbers on the axis in order, e.g. ``(0, 5, 10, 20, "all")``.
        panels: panel title -> mix name -> (N, 3) value, low, high as fractions; NaN where not measured (an
            interval may be NaN by itself).
        metric: name of the score.
        stamp: a word printed across the top.

    The dashed line is the value without enrolment; below it, enrolment hurts.
    """
    figure = Figure(figsize=(1.6 + 4.6 * len(panels), 4.6), layout="constrained")
    head(figure, "", stamp)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    mixes = list(dict.fromkeys(mix for panel in panels.values() for mix in panel))
    places = np.arange(len(counts), dtype=np.float64)
    for axes, (name, panel) in zip(row, panels.items(), strict=True):
        baseline = np.nan
        for mix, points in panel.items():
            number = mixes.index(mix)
            shift = 0.07 * (number - (len(mixes) - 1) / 2)
            values, lows, highs = np.asarray(points, dtype=np.float64).reshape(-1, 3).T
            known = np.isfinite(values)
            colour = COLOURS[number % len(COLOURS)]
            spread = known & np.isfinite(lows) & np.isfinite(highs)
            axes.vlines(
                places[spread] + shift, lows[spread], highs[spread], color=colour, alpha=0.45, linewidth=2
            )
            axes.plot(
                places[known] + shift,
                values[known],
                marker="osD^vPX*"[number % 8],
                color=colour,
                linewidth=2.4 if number == 0 else 1.4,
                markersize=6,
                label=mix,
            )
            if 0 in counts and not np.isfinite(baseline):
                baseline = values[list(counts).index(0)]
        if np.isfinite(baseline):
            axes.axhline(baseline, linestyle="--", color=FAINT, linewidth=1.2, zorder=0)
        axes.set_xticks(places, [str(count) for count in counts])
        axes.set_xlim(-0.5, len(counts) - 0.5)
        axes.set_xlabel("enrolment utterances a speaker (not scored)")
        axes.set_title(name, fontsize=11, loc="left", color=INK)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], min_n_ticks=3))
        axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
        axes.set_axisbelow(True)
        open_axes(axes)
    row[0].set_ylabel(metric)
    handles: dict[str, Any] = {}
    for axes in row:
        for handle, mix in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(mix, handle)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(4, len(mixes)),
        frameon=False,
        fontsize=10,
    )
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
    for place, (score, tip) in enumerate(zip(scores, tips, strict=True)):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        where: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 10}
        axes.text(tip + 0.012, place, f"{100 * score:.1f}", color=INK, bbox=box, **where)
    for number, (name, value) in enumerate(lines.items()):
        colour = ("#D55E00", "#009E73", "#CC79A7", "#0072B2")[number % 4]
        axes.axvline(
            value,
            linestyle=("--", ":", "-.")[number % 3],
            color=colour,
            linewidth=1.6,
            label=f"{name}: {100 * value:.1f}",
        )
    if lines:
        figure.legend(
            loc="outside lower center", ncols=2 if len(lines) > 1 else 1, frameon=False, fontsize=9.5
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(0, min(1.09, max(float(np.nanmax(tips)), *lines.values(), 0.1) + 0.09))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(metric)
    axes.grid(axis="x", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    open_axes(axes)
    return figure
