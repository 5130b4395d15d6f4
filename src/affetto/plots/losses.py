"""How training went: losses over epochs."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affetto.plots.style import COLOURS, FAINT, head, look, open_axes

_WIDTH = 4.6


def loss_curves(
    losses: Mapping[str, Mapping[str, ArrayLike]], *, title: str = "", stamp: str | None = None
) -> Figure:
    """Draws losses over epochs: a panel a loss, a line a training.

    Args:
        losses: name of the loss -> name of the training -> mean over each epoch, ``(epochs,)``.
        title: what is shown.
        stamp: a word printed across the top.
    """
    names = list(dict.fromkeys(name for lines in losses.values() for name in lines))
    figure = Figure(figsize=(_WIDTH * len(losses) + 2.5, 3.8), layout="constrained")
    head(figure, title, stamp)
    panels = figure.subplots(1, len(losses), squeeze=False)[0]
    handles = {}
    for axes, (loss, lines) in zip(panels, losses.items(), strict=True):
        open_axes(axes)
        for name, values in lines.items():
            number = names.index(name)
            style = "-" if number < len(COLOURS) else "--"
            epochs = range(1, len(list(values)) + 1)  # type: ignore[arg-type]
            [handles[name]] = axes.plot(epochs, values, style, color=look(number)[0], marker=".")
        axes.set_title(loss, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=FAINT, alpha=0.25)
    panels[0].set_ylabel("loss, mean over the epoch")
    ordered = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in ordered], ordered, loc="outside right center", frameon=False, fontsize=9
    )
    return figure
