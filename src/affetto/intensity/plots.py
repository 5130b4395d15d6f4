"""Curves of intensity over the spectrograms that they were read from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from affetto.plots.style import COLOURS, INK, head

COLUMNS = 2


class Spoken(NamedTuple):
    """One utterance and its curve.

    Attributes:
        title: what it is.
        spectrogram: log power, ``(T, F)``.
        hop_seconds: step between its frames.
        curve: ``(T',)``, 0 to 1.
        curve_hop_seconds: step between its values.
        hidden: frames of the spectrogram that a mask hides, ``(T,)``; None for none.
    """

    title: str
    spectrogram: NDArray[np.floating]
    hop_seconds: float
    curve: NDArray[np.floating]
    curve_hop_seconds: float
    hidden: NDArray[np.bool_] | None = None


def curves(
    shown: Sequence[Spoken], *, name: str = "intensity", title: str = "", stamp: str | None = None
) -> Figure:
    """Draws each utterance's spectrogram in grey, its curve over it, and what is hidden in blue.

    Args:
        shown: the utterances, in order.
        name: what the curve says.
        title: of the figure.
        stamp: a word printed across the top.
    """
    lines = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4.9 * COLUMNS, 0.5 + 2.3 * lines), layout="constrained")
    head(figure, title, stamp)
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes, each in zip(grid.flat, shown, strict=False):
        long = len(each.spectrogram) * each.hop_seconds
        low, high = np.percentile(each.spectrogram, (5, 99.5))
        axes.imshow(
            each.spectrogram.T,
            origin="lower",
            aspect="auto",
            cmap="Greys",
            vmin=low,
            vmax=max(high, low + 1e-3),
            extent=(0, long, 0, 1),
        )
        if each.hidden is not None:
            edges = np.flatnonzero(np.diff(each.hidden.astype(int), prepend=0, append=0))
            for first, last in edges.reshape(-1, 2) * each.hop_seconds:
                axes.axvspan(first, last, color=COLOURS[4], alpha=0.55, linewidth=0)
        times = (np.arange(len(each.curve)) + 0.5) * each.curve_hop_seconds
        axes.plot(times, each.curve, color="white", linewidth=4.2)
        axes.plot(times, each.curve, color=COLOURS[3], linewidth=2)
        mean = float(np.mean(each.curve))
        axes.axhline(mean, color=COLOURS[0], linestyle="--", linewidth=1.2)
        axes.set(xlim=(0, long), ylim=(0, 1), yticks=(0, 0.5, 1))
        axes.set_title(f"{each.title}, mean {mean:.2f}", fontsize=10, loc="left", color=INK)
        axes.tick_params(colors=INK, labelsize=9)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(name, fontsize=10)
    for axes in grid.flat[max(len(shown) - COLUMNS, 0) : len(shown)]:
        axes.set_xlabel("seconds", fontsize=10)
    return figure
