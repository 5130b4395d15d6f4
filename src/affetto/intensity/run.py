"""``annotate intensity``: a curve of intensity an utterance, a column that names them, and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from affetto._version import __version__
from affetto.audio import to_int16
from affetto.corpora.arrays import cell, content_hash, vector_places
from affetto.corpora.curves import VERB, write_curves
from affetto.corpora.manifest import Manifest
from affetto.features import FrontEnd
from affetto.intensity.quality import ALL, MEASURES, judge, measure, plain
from affetto.intensity.ranker import NEUTRAL, acted_intensities
from affetto.intensity.sources import SOURCES, IntensitySettings, Made
from affetto.material.recordings import Recordings
from affetto.pages import Page, Picture, Table, Text, decimal, percent
from affetto.plots.style import COLOURS, INK, blank, to_png
from affetto.runs import MANIFEST, RunFolder, write_text

PAGE = "intensity.html"
SHOWN, COLUMNS = 6, 2


def annotate_intensity(
    manifest: str | Path | Manifest, settings: IntensitySettings, out: str | Path, *, device: str = "auto"
) -> RunFolder:
    """Writes a curve of intensity an utterance, and a manifest with a column that names them.

    Returns the run folder: ``manifest.csv``; ``NAME.npy`` and ``NAME.json``, see
    :mod:`affetto.corpora.curves`; ``meta.json`` with every figure, and the utterances that cannot be read,
    whose cells are empty; ``intensity.html``; with the source ``ranker`` the network of each fold in
    ``fold-F/strength``. The same call again goes on where it stopped.
    """
    manifest = Manifest.of(manifest)
    settings = settings.with_protocol(manifest)
    if settings.column in manifest.table.columns:
        vector_places(manifest, settings.column, VERB)  # a column of something else is not overwritten
    facts, make = SOURCES[settings.source](manifest, settings)
    run = RunFolder(out, "annotate intensity")
    with run.locked():
        if run.start(settings, **manifest.facts, **facts):
            recordings = Recordings(manifest, device)
            made = make(recordings, run)
            _write(run, manifest, settings, recordings, made)
            run.finish(_report(run, settings, recordings, made))
    return run


def _write(
    run: RunFolder, manifest: Manifest, settings: IntensitySettings, recordings: Recordings, made: Made
) -> None:
    """Writes array, sidecar and manifest."""
    array = (run / f"{settings.column}.npy").absolute()
    waveforms = recordings.waveforms
    hashes = [content_hash(to_int16(waveforms[row])) for row in range(len(waveforms))]
    info = {"source": settings.source, "settings": settings.model_dump(mode="json"), **made.info}
    write_curves(array, made.values, made.lengths, hashes, {**info, "affetto_version": __version__})
    cells = {key: cell(array, row) for row, key in enumerate(recordings.manifest.keys)}
    column = pd.Series([cells.get(key) for key in manifest.keys], manifest.table.index, dtype=object)
    manifest.with_columns({settings.column: column}).write(run / MANIFEST)


def _report(
    run: RunFolder, settings: IntensitySettings, recordings: Recordings, made: Made
) -> dict[str, object]:
    """Measures the curves on speakers whose labels were not seen, writes the page and returns the figures."""
    manifest, curves, hop_seconds = recordings.manifest, made.tested_curves(), made.info["hop_seconds"]
    table = measure(recordings, curves, hop_seconds).assign(
        speaker=manifest.owners,
        emotion=pd.Series(made.emotions, dtype=object),
        text=manifest.table["text"].to_numpy(),
        acted=acted_intensities(manifest.table["intensity_level"]),
    )
    tested = (made.tested >= 0) & manifest.table["speaker"].notna().to_numpy()
    quality = judge(table[tested])
    words, rows = facts_in_words(settings.source, made, quality, len(recordings.unreadable)), figures(quality)
    shown = examples(recordings, curves, hop_seconds, table[tested] if tested.any() else table)
    png = to_png(curve_figure(shown, settings.column), dpi=110)
    picture = Picture("curves.png", f"Curves over the spectrograms of {len(shown)} utterances", png)
    title = f"Curves of {settings.column} for {', '.join(filter(None, manifest.corpora)) or 'a manifest'}"
    write_text(run / PAGE, Page(title, [*words, rows, picture]).html())
    return {
        "utterances": len(curves) + len(recordings.unreadable),
        "curves": len(curves),
        "column": settings.column,
        "source": settings.source,
        "words": [block.text for block in words],
        "table": [rows.heads, *rows.rows],
        "quality": plain(quality),
        "choices": made.choices,
        "unreadable": recordings.unreadable,
        **{name: made.info[name] for name in ("hop_seconds", "protocol", "folds")},
    }


class Spoken(NamedTuple):
    """An utterance: its spectrogram ``(T, F)`` and curve ``(T',)``, and what a mask hides of it, ``(T,)``."""

    title: str
    spectrogram: NDArray[np.floating]
    hop_seconds: float
    curve: NDArray[np.floating]
    curve_hop_seconds: float
    hidden: NDArray[np.bool_] | None = None


def curve_figure(shown: Sequence[Spoken], name: str) -> Figure:
    """Draws each spectrogram in grey, its curve in red with its mean dashed, and hidden frames in blue."""
    lines = -(-len(shown) // COLUMNS)
    figure, grid = blank(4.9 * COLUMNS, 0.5 + 2.3 * lines, "", None, lines, COLUMNS, squeeze=False)
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
    return Table(["", "curve", *others], known, caption)
