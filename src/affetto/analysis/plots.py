"""Clusters within speakers: a map a speaker, and what the clusters follow."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from affetto.plots.style import COLOURS, FAINT, INK, blank, head, open_axes

MARKERS = "osD^vP*X<>ph"
ALONE = "."
"""The marker of an utterance without a cluster."""

COLUMNS = 3


class Map(NamedTuple):
    """One speaker.

    Attributes:
        title: who it is.
        places: where the utterances lie, (N, 2).
        classes: (N,) number of each utterance's class, -1 for none.
        clusters: (N,) its cluster, -1 for none.
    """

    title: str
    places: NDArray[np.floating]
    classes: NDArray[np.int64]
    clusters: NDArray[np.int64]


def speaker_maps(
    maps: Sequence[Map], labels: Sequence[str], *, title: str = "", stamp: str | None = None
) -> Figure:
    """Draws one map a speaker: a point an utterance, its colour the class, its marker the cluster.

    Args:
        maps: the speakers, in order.
        labels: the K class names; without any, colours show clusters too.
        title: what is shown.
        stamp: a word printed across the top.

    A marker means something within its own map only, for clusters are numbered speaker by speaker.
    """
    lines = -(-len(maps) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 0.9 + 3.25 * lines), layout="constrained")
    head(figure, title, stamp)
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
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


def followed(
    names: Sequence[str],
    speakers: Mapping[str, ArrayLike],
    means: Mapping[str, tuple[float, float | None, float | None]],
    *,
    emphasised: str = "",
    metric: str = "AMI",
    title: str = "",
    stamp: str | None = None,
) -> Figure:
    """Draws how far something is followed, a row a name: a dot a speaker, and the mean with its interval.

    Args:
        names: the rows, the first on top.
        speakers: name -> (G,) a value a speaker; NaN for none.
        means: name -> mean and the ends of its interval, None for none.
        emphasised: the row that the others are held against.
        metric: what is shown.
        title: of the figure.
        stamp: a word printed across the top.
    """
    figure, axes = blank(8.4, 1.5 + 0.46 * len(names), title, stamp)
    generator = np.random.default_rng(0)
    for place, name in enumerate(names):
        values = np.asarray(speakers[name], dtype=np.float64)
        colour = COLOURS[3] if name == emphasised else COLOURS[0]
        shift = generator.uniform(-0.26, 0.26, len(values))
        axes.plot(values, place + shift, ".", color=colour, alpha=0.4, markersize=5, markeredgewidth=0)
        mean, low, high = means[name]
        if low is not None and high is not None:
            axes.hlines(place, low, high, color=INK, linewidth=2)
        axes.plot(mean, place, "D", color=colour, markeredgecolor=INK, markersize=7)
        axes.annotate(
            f"{mean:.2f}".replace("-", "\N{MINUS SIGN}"),
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=10,
            color=INK,
        )
    axes.axvline(0, color=FAINT, linestyle="--", linewidth=1.2, zorder=0)
    if emphasised in means:
        axes.axvline(means[emphasised][0], color=COLOURS[3], linestyle=":", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel(f"{metric}: 0 is chance, 1 a perfect match; a dot a speaker, the diamond their mean")
    axes.grid(axis="x", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    open_axes(axes)
    return figure


def _one(axes: Axes, shown: Map, palette: Sequence[str], by_class: bool) -> None:
    coloured = shown.classes if by_class else shown.clusters
    for number in np.unique(shown.clusters).tolist():
        own = shown.clusters == number
        fills = [palette[code] if code >= 0 else "white" for code in coloured[own].tolist()]
        across, up = shown.places[own].T
        axes.scatter(
            across, up, s=34, c=fills, marker=_marker(number), edgecolors=INK, linewidths=0.4, alpha=0.95
        )
    axes.set_title(shown.title, fontsize=10, loc="left", color=INK)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    for spine in axes.spines.values():
        spine.set_color("#D0D0D0")


def _marker(number: int) -> str:
    """Returns a marker; past the shapes that can be told apart, the number itself."""
    if number < 0:
        return ALONE
    return MARKERS[number] if number < len(MARKERS) else f"${number}$"


def _palette(count: int) -> list[str]:
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count))]
