"""The page of an analysis of layers: words, a figure, a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from affetto import plots
from affetto.evaluation.guard import STAMP
from affetto.pages import Block, Heading, Picture, Table, Text, percent, points

SUM = "weighted"
"""The layers setting of the probe on a learned sum."""

UNTRAINED = "untrained"

Rows = Sequence[dict[str, Any]]


def name_of(layer: int | str) -> str:
    """Returns what a probe is called in a table."""
    return "weighted sum" if layer == SUM else f"layer {layer}"


def title(encoder: str) -> str:
    """Returns the title of the page."""
    return f"What a probe reads from each layer of {encoder}"


def blocks(encoder: str, rows: Rows, protocol: str, classes: int) -> list[Block]:
    """Lays out an analysis, its figure drawn.

    Args:
        encoder: what it is called.
        rows: as ``layers.json`` holds them.
        protocol: its name.
        classes: K, for what chance gives.
    """
    own = [row for row in rows if row["encoder"] != UNTRAINED] or list(rows)
    page: list[Block] = [*map(Text, _words(own, protocol))]
    page.append(_picture(encoder, rows, classes))
    page += [Heading("Every probe"), _table(rows)]
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    return [*page, Heading("How it was measured"), *map(Text, (*_HOW, *notes))]


_HOW = (
    "A probe is one linear layer on the mean over time of one layer of the fixed encoder, or of a learned "
    "weighted sum of all layers. Each is trained in the same way on the training speakers; its epoch is "
    "chosen on dev speakers, and the test part is scored once. Intervals are over test speakers (bootstrap, "
    "95 %).",
    "The untrained encoder has the same shape and random weights, the same in every fold of a seed: what it "
    "reaches is owed to the shape and the front end, and not to what was learned.",
    "The layer that is best on test is picked with hindsight; the one named above is the best on dev. Layers "
    "of different scale are learned at different speed by the same number of steps, and the weights of the "
    "sum multiply layers of different scale: a large weight alone does not say that a layer matters.",
)


def _words(own: Rows, protocol: str) -> list[str]:
    layers = [row for row in own if row["layer"] != SUM]
    best = max(layers, key=lambda row: row["dev_uar"])
    total = next(row for row in own if row["layer"] == SUM)
    words = [
        f"Protocol {protocol}. The layer that is best on dev is {best['layer']} of 0 to {len(layers) - 1}: "
        f"{_score(best)} % UAR on test. The weighted sum of all reaches {_score(total)} %."
    ]
    if best.get("difference") is not None:
        words.append(
            f"Above the same layer of an untrained encoder: {_gap(best)} points; the sum, "
            f"above that of an untrained encoder: {_gap(total)} points."
        )
    elif all(row["encoder"] == UNTRAINED for row in own):
        words.append("This encoder has no weights of its own: what is shown is an untrained network.")
    return words


def _picture(encoder: str, rows: Rows, classes: int) -> Picture:
    lines: dict[str, list[list[float]]] = {}
    sums: dict[str, float] = {}
    weights: dict[str, list[float]] = {}
    for row in rows:
        name = UNTRAINED if row["encoder"] == UNTRAINED else encoder
        if row["layer"] == SUM:
            sums[name], weights[name] = row["uar"], row["weights"]
        else:
            ends = [np.nan if row[end] is None else row[end] for end in ("uar_low", "uar_high")]
            lines.setdefault(name, []).append([row["uar"], *ends])
    stamp = STAMP if any(row.get("speaker_dependent") for row in rows) else None
    figure = plots.layers(lines, sums, weights, chance=1 / classes, stamp=stamp)
    return Picture(
        "layers.png", "UAR of a probe on each layer, and the weights of their sum", plots.to_png(figure)
    )


def _table(rows: Rows) -> Table:
    compared = any(row.get("difference") is not None for row in rows)
    heads = ["probe on", "UAR on dev", "UAR", "WAR", *(["above untrained"] if compared else []), "weight"]
    cells = []
    for row in rows:
        total = next(each for each in rows if each["encoder"] == row["encoder"] and each["layer"] == SUM)
        weight = "" if row["layer"] == SUM else percent(total["weights"][row["layer"]])
        line = [row["method"], percent(row["dev_uar"]), _score(row), percent(row["war"])]
        cells.append([*line, *([_gap(row)] if compared else []), weight])
    caption = "Percent, with the 95 % interval; last the layer's weight in the learned sum"
    return Table(heads, cells, caption, [False] + [True] * (len(heads) - 1))


def _score(row: dict[str, Any]) -> str:
    return percent(row["uar"], row["uar_low"], row["uar_high"])


def _gap(row: dict[str, Any]) -> str:
    return points(row.get("difference"), row.get("difference_low"), row.get("difference_high"))
