"""Colours, hatches, titles and stamps of all figures."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito (2008), their black replaced by grey
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
HATCHES = ("", "///", "...", "xxx")
INK, FAINT, ALARM = "#222222", "#8A8A8A", "#B00020"


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Renders a figure as PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def blank(width: float, height: float, title: str, stamp: str | None) -> tuple[Figure, Axes]:
    """Returns a figure of one axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    head(figure, title, stamp)
    return figure, figure.subplots()


def head(figure: Figure, title: str, stamp: str | None) -> None:
    """Writes title and stamp over a figure."""
    if stamp:
        text = f"{stamp.upper()}\n{title}" if title else stamp.upper()
        figure.suptitle(text, fontsize=12, color=ALARM, weight="bold")
    elif title:
        figure.suptitle(title, fontsize=12, color=INK)


def open_axes(axes: Axes) -> None:
    """Removes the frame above and to the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)


def look(number: int) -> tuple[str, str]:
    """Returns colour and hatch of a class by number; 32 are distinct."""
    return COLOURS[number % len(COLOURS)], HATCHES[number // len(COLOURS) % len(HATCHES)]


def ink_on(fill: Any) -> str:
    """Returns black or white, the one that is readable on a colour."""
    parts: NDArray[np.float64] = np.asarray(to_rgb(fill))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.18 else "black"  # even contrast at 0.18
