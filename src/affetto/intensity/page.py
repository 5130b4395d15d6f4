"""The page of curves of intensity: what they order, what else they follow, and how they look."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from affetto.features import FrontEnd
from affetto.intensity.curves import NEUTRAL
from affetto.intensity.quality import ALL, MEASURES, Quality
from affetto.intensity.sources import SOURCES, IntensitySettings, Made
from affetto.material.recordings import Recordings
from affetto.pages import Page, Picture, Table, Text, decimal, percent
from affetto.plots.style import COLOURS, INK, head, to_png

PAGE = "intensity.html"
SHOWN, COLUMNS = 6, 2


class Spoken(NamedTuple):
    """One utterance and its curve.

    Attributes:
        title: above it.
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


def curve_figure(
    shown: Sequence[Spoken], *, name: str = "intensity", title: str = "", stamp: str | None = None
) -> Figure:
    """Draws each spectrogram in grey, its curve in red with its mean dashed, and hidden frames in blue."""
    lines = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4.9 * COLUMNS, 0.5 + 2.3 * lines), layout="constrained")
    head(figure, title, stamp)
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
    """Picks a few of the utterances in ``table``, whose index is their row, to be shown.

    With labels: one of each emotion, of one speaker and sentence if possible, neutral first. Without: from
    the lowest to the highest mean.
    """
    labelled = table.dropna(subset="emotion")
    if len(labelled):
        groups = labelled.groupby(["speaker", "text"], dropna=False)["emotion"]
        own = labelled[groups.ngroup() == groups.nunique().to_numpy().argmax()]
        first = own.drop_duplicates("emotion").sort_values("emotion")
        picked = first.sort_values("emotion", key=lambda names: names != NEUTRAL, kind="stable")
    else:
        places = np.linspace(0, len(table) - 1, SHOWN).round().astype(int)
        picked = table.sort_values("intensity", kind="stable").iloc[np.unique(places)]
    picked, front_end = picked[:SHOWN], FrontEnd()
    shown = []
    for row, emotion in zip(picked.index.tolist(), picked["emotion"], strict=True):
        waveform = torch.from_numpy(recordings.waveforms[row])[None]
        spectrogram = front_end(waveform, torch.tensor([waveform.shape[1]]))[0][0].numpy()
        name = (
            recordings.manifest.keys[row]
            if pd.isna(emotion)
            else f"{emotion}, {recordings.manifest.keys[row]}"
        )
        shown.append(Spoken(name, spectrogram, front_end.hop_seconds, curves[row], hop_seconds))
    return shown


def facts_in_words(settings: IntensitySettings, made: Made, quality: Quality, unreadable: int) -> list[Text]:
    """Words what the curves are, and what could not be measured."""
    words = [
        Text(
            f"{len(made.lengths):,} curves, a value every {1000 * made.hop_seconds:g} ms, from 0 to 1 within "
            f"the corpus: {SOURCES[settings.source].about}."
        )
    ]
    if unreadable:
        words.append(Text(f"Recordings that cannot be read, without a curve: {unreadable}."))
    if made.with_labels:
        counts = sorted({len(names) for names in made.with_labels.values()})
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        each = " in each fold" if made.folds else ""
        protocol = f" ({made.protocol})" if made.protocol else ""
        words.append(Text(f"Labels of {many} speakers were seen{each}{protocol}. The figures are of others."))
    else:
        words.append(Text("No label was looked at to make them."))
    if not quality.utterances:
        words.append(Text("No speaker is left to test the curves on.", alarm=True))
    elif not quality.order:
        lacking = "no speaker has both" if quality.means else "no utterance has an emotion label"
        text = f"Whether emotional speech lies above {NEUTRAL} speech cannot be said: {lacking}."
        words.append(Text(text, alarm=True))
    return words


def figures(quality: Quality) -> Table:
    """Returns every measure, by the curve's mean, by loudness and by duration."""
    heads = ["", "curve", *MEASURES[1:]]
    order, levels, with_other = quality.order, quality.levels, quality.correlations
    rows = [
        [f"{'emotional' if name == ALL else name} above {NEUTRAL}, % of pairs"]
        + [percent(*order[by][name]) for by in MEASURES]
        for name in order.get("intensity", ())
    ]
    rows += [
        [f"acted intensity {'higher above lower' if name == ALL else name}, % of pairs"]
        + [percent(*levels[by][name]) for by in MEASURES]
        for name in levels.get("intensity", ())
    ]
    if quality.level_correlation is not None:
        rows.append(
            ["correlation with acted intensity (Spearman)", decimal(*quality.level_correlation), "", ""]
        )
    by_utterance = [decimal(*with_other[f"{name}, by utterance"]) for name in MEASURES[1:]]
    rows += [
        ["correlation of the mean with (Spearman)", "", *by_utterance],
        ["correlation of frames with (Pearson)", "", decimal(*with_other["loudness, by frame"]), ""],
        ["variance within utterances, %", percent(*quality.within), "", ""],
        *([f"mean of {name}", decimal(mean), "", ""] for name, mean in quality.means.items()),
    ]
    caption = (
        f"On {quality.speakers} speakers whose labels were not seen, with 95 % intervals over speakers. "
        "Pairs are of one speaker, those of acted intensity of one emotion and sentence too; 50 is chance"
    )
    known = [row for row in rows if any(row[1:])]
    return Table(heads, known, caption, [False, True, True, True])


def curve_page(
    settings: IntensitySettings,
    corpora: Sequence[str],
    words: Sequence[Text],
    table: Table,
    shown: Sequence[Spoken],
) -> Page:
    """Lays the page out: words, one table, one figure."""
    png = to_png(curve_figure(shown, name=settings.column), dpi=110)
    picture = Picture("curves.png", f"Curves over the spectrograms of {len(shown)} utterances", png)
    title = f"Curves of {settings.column} for {', '.join(filter(None, corpora)) or 'a manifest'}"
    return Page(title, [*words, *([table] if table.rows else []), picture])
