"""Figures of the analyses: a map a speaker, agreement by speaker, scores by layer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from affetto.plots.style import COLOURS, FAINT, INK, MARKERS, blank, look, open_axes, rows_down, score_line

ALONE = "."  # an utterance without a cluster
COLUMNS = 3
_DASHES = ("--", ":", "-.")


class Map(NamedTuple):
    """A speaker: a title, places ``(N, 2)``, class and cluster of each utterance ``(N,)``, -1 for none."""

    title: str
    places: NDArray[np.floating]
    classes: NDArray[np.int64]
    clusters: NDArray[np.int64]


def speaker_maps(maps: Sequence[Map], labels: Sequence[str]) -> Figure:
    """Draws a map a speaker: a point an utterance, its colour the class, its marker the cluster.

    Without names of classes (``labels``) colours show clusters too.
    """
    lines = -(-len(maps) // COLUMNS)
    figure, grid = blank(3.4 * COLUMNS, 0.9 + 3.25 * lines, "", None, lines, COLUMNS, squeeze=False)
    numbers = sorted({int(number) for shown in maps for number in shown.clusters})
    palette = _palette(len(labels) or max(numbers, default=0) + 1)
    for axes, shown in zip(grid.flat, maps, strict=False):
        _one(axes, shown, palette, by_class=bool(labels))
    for axes in grid.flat[len(maps) :]:
        axes.set_visible(False)
    dot: dict[str, Any] = {"linestyle": "", "markeredgecolor": INK, "markeredgewidth": 0.4}
    shades = [
        Line2D([], [], marker="o", color=colour, label=label, **dot)
        for label, colour in zip(labels, palette, strict=False)
    ]
    shapes = []
    for number in numbers:
        colour = "white" if labels or number < 0 else palette[number]
        words = "no cluster" if number < 0 else f"cluster {number}"
        shapes.append(Line2D([], [], marker=_marker(number), color=colour, label=words, **dot))
    key: dict[str, Any] = {"ncols": COLUMNS, "frameon": False, "fontsize": 9.5}
    if shades:
        figure.legend(handles=shades, loc="outside lower left", **key)
    figure.legend(handles=shapes, loc="outside lower right", **key)
    return figure


def agreement_by_speaker(
    speakers: Mapping[str, ArrayLike],
    means: Mapping[str, tuple[float, float | None, float | None]],
    emphasised: str,
) -> Figure:
    """Draws AMI, a row a name: a dot a speaker, and the mean with its interval.

    ``speakers`` are values ``(G,)`` by name, NaN for none; ``means`` are mean and ends of the interval, None
    for none; the mean of the ``emphasised`` row is drawn through all rows.
    """
    figure, axes = blank(8.4, 1.5 + 0.46 * len(speakers), "", None)
    generator = np.random.default_rng(0)
    for place, (name, numbers) in enumerate(speakers.items()):
        values = np.asarray(numbers, dtype=np.float64)
        colour = COLOURS[3] if name == emphasised else COLOURS[0]
        shift = generator.uniform(-0.26, 0.26, len(values))
        axes.plot(values, place + shift, ".", color=colour, alpha=0.4, markersize=5, markeredgewidth=0)
        mean, low, high = means[name]
        if low is not None:
            axes.hlines(place, low, high, color=INK, linewidth=2)
        axes.plot(mean, place, "D", color=colour, markeredgecolor=INK, markersize=7)
        text = f"{mean:.2f}".replace("-", "\N{MINUS SIGN}")
        at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 10}
        axes.annotate(text, (1.01, place), color=INK, **at)
    axes.axvline(0, color=FAINT, linestyle="--", linewidth=1.2, zorder=0)
    if emphasised in means:
        axes.axvline(means[emphasised][0], color=COLOURS[3], linestyle=":", linewidth=1.2, zorder=0)
    axes.set_xlabel("AMI: 0 is chance, 1 a perfect match; a dot a speaker, the diamond their mean")
    rows_down(axes, list(speakers))
    return figure


def scores_by_layer(
    lines: Mapping[str, ArrayLike],
    sums: Mapping[str, float],
    weights: Mapping[str, ArrayLike],
    chance: float,
    stamp: str | None = None,
) -> Figure:
    """Draws UAR against the layer, a line an encoder, and below the weights of a learned sum of layers.

    ``lines`` are value, low and high of each layer ``(L, 3)`` by encoder, as fractions, ends may be NaN;
    ``sums`` is the score of the weighted sum and ``weights`` its weights ``(L,)``.
    """
    count = len(np.asarray(next(iter(lines.values()))))
    size = (max(6.4, 2.6 + 0.5 * count), 5.4)
    figure, (upper, lower) = blank(*size, "", stamp, 2, sharex=True, height_ratios=[3, 1])
    places, wide = np.arange(count, dtype=np.float64), 0.8 / len(lines)
    for number, (name, scores) in enumerate(lines.items()):
        colour, side = look(number)[0], number - (len(lines) - 1) / 2
        score_line(upper, places + 0.12 * side, scores, number, name)
        dash = {"linestyle": _DASHES[number % len(_DASHES)], "linewidth": 1.4}
        upper.axhline(sums[name], color=colour, label=f"{name}, weighted sum", **dash)
        lower.bar(places + wide * side, np.asarray(weights[name]), 0.92 * wide, color=colour)
    upper.axhline(chance, color=FAINT, linewidth=1, label="chance")
    upper.set_ylabel("UAR")
    lower.set_xticks(places, [str(number) for number in range(count)])
    lower.set(xlabel="layer, 0 is nearest to the sound", ylabel="weight in the sum")
    open_axes(upper, grid="y", percent="y")
    open_axes(lower, percent="y")
    handles = upper.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9.5)
    return figure


def _one(axes: Axes, shown: Map, palette: Sequence[str], by_class: bool) -> None:
    coloured = shown.classes if by_class else shown.clusters
    edges: dict[str, Any] = {"edgecolors": INK, "linewidths": 0.4, "alpha": 0.95}
    for number in np.unique(shown.clusters).tolist():
        own = shown.clusters == number
        fills = [palette[code] if code >= 0 else "white" for code in coloured[own].tolist()]
        across, up = shown.places[own].T
        axes.scatter(across, up, s=34, c=fills, marker=_marker(number), **edges)
    axes.set_title(shown.title, fontsize=10, loc="left", color=INK)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.spines[:].set_color("#D0D0D0")


def _marker(number: int) -> str:
    if number < 0:
        return ALONE
    return MARKERS[number] if number < len(MARKERS) else f"${number}$"


def _palette(count: int) -> list[str]:
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count))]
