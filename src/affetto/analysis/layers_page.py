"""The page of ``analyse layers``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from affetto.analysis.plots import scores_by_layer
from affetto.evaluation.guard import STAMP
from affetto.pages import Block, Heading, Page, Picture, Table, Text, percent, points
from affetto.plots import to_png

SUM = "weighted"  # the setting `layers` of the probe on a learned sum
UNTRAINED = "untrained"

Rows = Sequence[dict[str, Any]]


def name_of(layer: int | str) -> str:
    """Returns the name of a probe in tables."""
    return "weighted sum" if layer == SUM else f"layer {layer}"


def layers_page(encoder: str, rows: Rows, protocol: str, classes: int) -> Page:
    """Lays out the rows of ``layers.json`` for an encoder, a protocol and ``K`` classes."""
    own = [row for row in rows if row["encoder"] != UNTRAINED] or list(rows)
    page: list[Block] = [*map(Text, _words(own, protocol)), _picture(encoder, rows, classes)]
    page += [Heading("Every probe"), _table(rows), Heading("Method")]
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    return Page(f"Probes on the layers of {encoder}", [*page, *map(Text, (*_METHOD, *notes))])


_METHOD = (
    "A probe is a linear layer on the mean over time of one layer of the frozen encoder, or of a learned "
    "weighted sum of all. Its epoch is chosen on dev speakers, and test is scored once. Intervals are over "
    "test speakers (bootstrap, 95 %). The untrained encoder has the same shape and random weights, the "
    "same in every fold of a seed. The layer that is best on test is a choice in hindsight. Layers differ "
    "in scale, so a large weight in the sum alone does not show that a layer matters.",
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
            f"Minus the same layer of an untrained encoder: {_gap(best)} points; the sum minus its sum: "
            f"{_gap(total)} points."
        )
    elif all(row["encoder"] == UNTRAINED for row in own):
        words.append("This encoder has no weights of its own: this is an untrained network.")
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
    figure = scores_by_layer(lines, sums, weights, chance=1 / classes, stamp=stamp)
    return Picture("layers.png", "UAR of a probe on each layer, and the weights of their sum", to_png(figure))


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
