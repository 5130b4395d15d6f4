"""The page of curves of intensity: what they order, what else they follow, and how they look."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from affetto.features import FrontEnd
from affetto.intensity.curves import NEUTRAL
from affetto.intensity.quality import ALL, MEASURES
from affetto.intensity.sources import Made
from affetto.material.recordings import Recordings
from affetto.pages import Block, Page, Picture, Table, Text, decimal, percent
from affetto.plots.style import COLOURS, INK, to_png

PAGE = "intensity.html"
SHOWN, COLUMNS = 6, 2


class Spoken(NamedTuple):
    """An utterance: its spectrogram ``(T, F)`` and curve ``(T',)``, and what a mask hides of it, ``(T,)``."""

    title: str
    spectrogram: NDArray[np.floating]
    hop_seconds: float
    curve: NDArray[np.floating]
    curve_hop_seconds: float
    hidden: NDArray[np.bool_] | None = None


def curve_figure(shown: Sequence[Spoken], name: str = "intensity") -> Figure:
    """Draws each spectrogram in grey, its curve in red with its mean dashed, and hidden frames in blue."""
    lines = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4.9 * COLUMNS, 0.5 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes, each in zip(grid.flat, shown, strict=False):
        long = len(each.spectrogram) * each.hop_seconds
        low, high = np.percentile(each.spectrogram, (5, 99.5))
        shades = {"cmap": "Greys", "vmin": low, "vmax": max(high, low + 1e-3)}
        axes.imshow(each.spectrogram.T, origin="lower", aspect="auto", extent=(0, long, 0, 1), **shades)
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


def examples(
    recordings: Recordings, curves: Sequence[NDArray[np.float32]], hop_seconds: float, table: pd.DataFrame
) -> list[Spoken]:
    """Picks a few of the utterances in ``table``, whose index is their row.

    With labels: one of each emotion, of one speaker and sentence if possible, neutral first. Without: from
    the lowest to the highest mean.
    """
    labelled = table.dropna(subset="emotion")
    if len(labelled):
        groups = labelled.groupby(["speaker", "text"], dropna=False)["emotion"]
        own = labelled[groups.ngroup() == groups.nunique().to_numpy().argmax()].drop_duplicates("emotion")
        picked = own.sort_values("emotion", key=lambda names: names.replace(NEUTRAL, ""))
    else:
        places = np.linspace(0, len(table) - 1, SHOWN).round().astype(int)
        picked = table.sort_values("intensity", kind="stable").iloc[np.unique(places)]
    picked, front_end = picked[:SHOWN], FrontEnd()
    shown = []
    for row, emotion in zip(picked.index.tolist(), picked["emotion"], strict=True):
        waveform = torch.from_numpy(recordings.waveforms[row])[None]
        spectrogram = front_end(waveform, torch.tensor([waveform.shape[1]]))[0][0].numpy()
        name = ", ".join([*([] if pd.isna(emotion) else [emotion]), recordings.manifest.keys[row]])
        shown.append(Spoken(name, spectrogram, front_end.hop_seconds, curves[row], hop_seconds))
    return shown


def facts_in_words(source: str, made: Made, quality: dict[str, Any], unreadable: int) -> list[Text]:
    """Words what the curves are, and what could not be measured."""
    hop, protocol, folds = (made.info[name] for name in ("hop_seconds", "protocol", "folds"))
    counts = sorted({len(names) for names in made.info["speakers_seen"]["with_labels"].values()})
    words = [f"{len(made.lengths):,} curves of {source}, a value every {1000 * hop:g} ms, from 0 to 1."]
    if unreadable:
        words.append(f"Recordings that cannot be read, without a curve: {unreadable}.")
    if counts:
        many = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        each, of = " in each fold" if folds else "", f" ({protocol})" if protocol else ""
        words.append(f"Labels of {many} speakers were seen{each}{of}. The figures are of others.")
    else:
        words.append("No label was looked at to make them.")
    alarms = []
    if not quality["utterances"]:
        alarms.append("No speaker is left to test the curves on.")
    elif not quality["order"]:
        lacking = "no speaker has both" if quality["means"] else "no utterance has an emotion label"
        alarms.append(f"Whether emotional speech lies above {NEUTRAL} speech cannot be said: {lacking}.")
    return [*map(Text, words), *(Text(text, alarm=True) for text in alarms)]


def figures(quality: dict[str, Any]) -> Table:
    """Returns every measure: of the curve, and of loudness and duration in its place or against it."""
    first, others = MEASURES[0], MEASURES[1:]
    rows = []
    for kind, rest in (("order", f"above {NEUTRAL}, % of pairs"), ("levels", "acted intensity, % of pairs")):
        found = quality[kind]
        for name in found.get(first, ()):
            what = {"order": "emotional", "levels": "higher"}[kind] if name == ALL else name
            rows.append([f"{what} {rest}", *(percent(*found[by][name]) for by in MEASURES)])
    other = quality["correlations"]
    by_utterance = [decimal(*other[f"{name}, by utterance"]) for name in others]
    acted = quality["level_correlation"] or (None,)
    rows += [
        ["correlation with acted intensity (Spearman)", decimal(*acted), "", ""],
        ["correlation of means (Spearman)", "", *by_utterance],
        ["correlation of frames (Pearson)", "", decimal(*other["loudness, by frame"]), ""],
        ["variance within utterances, %", percent(*quality["within"]), "", ""],
        *([f"mean of {name}", decimal(mean), "", ""] for name, mean in quality["means"].items()),
    ]
    caption = (
        f"On {quality['speakers']} speakers whose labels were not seen, with 95 % intervals over speakers. "
        "Pairs are of one speaker, those of acted intensity of one emotion and sentence too; 50 is chance"
    )
    known = [row for row in rows if any(row[1:])]
    return Table(["", "curve", *others], known, caption, [False, True, True, True])


def curve_page(column: str, corpora: Sequence[str], blocks: Sequence[Block], shown: Sequence[Spoken]) -> Page:
    """Lays the page out: words and the table, and one figure."""
    png = to_png(curve_figure(shown, name=column), dpi=110)
    picture = Picture("curves.png", f"Curves over the spectrograms of {len(shown)} utterances", png)
    title = f"Curves of {column} for {', '.join(filter(None, corpora)) or 'a manifest'}"
    return Page(title, [*blocks, picture])
