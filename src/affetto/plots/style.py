"""Colours, axes, titles and stamps of all figures."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito (2008), their black replaced by grey
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
HATCHES = ("", "///", "...", "xxx")
MARKERS = "osD^vP*X<>ph"
INK, FAINT, ALARM, GRID = "#222222", "#8A8A8A", "#B00020", "#E3E3E3"


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Renders a figure as PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def blank(
    width: float, height: float, title: str, stamp: str | None, rows: int = 1, columns: int = 1, **how: Any
) -> tuple[Figure, Any]:
    """Returns a figure under its title and stamp, and its axes as ``Figure.subplots`` gives them."""
    figure = Figure(figsize=(width, height), layout="constrained")
    words = [part for part in ((stamp or "").upper(), title) if part]
    if words:
        look = {"color": ALARM, "weight": "bold"} if stamp else {"color": INK}
        figure.suptitle("\n".join(words), fontsize=12, **look)
    return figure, figure.subplots(rows, columns, **how)


def open_axes(axes: Axes, grid: str = "", percent: str = "") -> None:
    """Removes the frame above and to the right.

    ``grid`` and ``percent`` name the axes, ``"x"`` or ``"xy"``, that get a grid or are written as percent.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
    for name in grid:
        axes.grid(axis=name, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
    for name in percent:
        getattr(axes, f"{name}axis").set_major_formatter(PercentFormatter(1, decimals=0))


def rows_down(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows of a horizontal chart, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    open_axes(axes, grid="x")


def score_line(axes: Axes, places: ArrayLike, scores: ArrayLike, number: int, label: str = "") -> None:
    """Draws scores ``(N, 3)``, value and ends of the interval, NaN for unknown, as the line of a number."""
    at, (value, low, high) = np.asarray(places, np.float64), np.asarray(scores, np.float64).T
    known, spread, colour = np.isfinite(value), np.isfinite(low + high), look(number)[0]
    style = "-" if number < len(COLOURS) else "--"
    axes.vlines(at[spread], low[spread], high[spread], color=colour, alpha=0.5, linewidth=2)
    marker = MARKERS[number % len(MARKERS)]
    axes.plot(at[known], value[known], color=colour, linestyle=style, marker=marker, label=label)


def look(number: int) -> tuple[str, str]:
    """Returns colour and hatch of a class by number; 32 are distinct."""
    return COLOURS[number % len(COLOURS)], HATCHES[number // len(COLOURS) % len(HATCHES)]


def ink_on(fill: Any) -> str:
    """Returns black or white, the one that is readable on a colour."""
    parts: NDArray[np.float64] = np.asarray(to_rgb(fill))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.18 else "black"  # even contrast at 0.18
