"""The page of curves of intensity: what they order, what else they follow, and how they look."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from affetto import plots
from affetto.features import FrontEnd
from affetto.intensity.folder import NEUTRAL
from affetto.intensity.quality import ALL, CHANCE, Quality
from affetto.intensity.sources import Made
from affetto.material.recordings import Recordings
from affetto.pages import Block, Heading, Picture, Table, Text, decimal, percent

PAGE = "intensity.html"
SHOWN = 6
SOURCES = {
    "ranker": "learned from emotion labels: rankers order emotional above neutral utterances, and a network "
    "follows them frame by frame",
    "recogniser": "one minus the probability of neutral, by a recogniser that hears a stretch at a time",
    "loudness": "the level of each frame in decibels",
    "voicing": "how voiced each frame is: how well it is like itself one period later",
}
CLOSE = 0.5
"""Correlation with loudness from which the reader is warned."""

FLAT = 0.25
"""Share of variance within utterances below which curves say little about moments."""


class Findings(NamedTuple):
    """What the page tells of.

    Attributes:
        source: what made the curves.
        column: that names them.
        corpora: whose they are.
        utterances: how many curves there are.
        made: the curves.
        quality: on speakers whose labels were not seen.
        labels: the emotions.
        unreadable: recordings without a curve, and why.
    """

    source: str
    column: str
    corpora: list[str]
    utterances: int
    made: Made
    quality: Quality
    labels: list[str]
    unreadable: dict[str, str]


def title(found: Findings) -> str:
    """Returns the title of the page."""
    return f"Curves of {found.column} for {', '.join(name for name in found.corpora if name) or 'a manifest'}"


def examples(
    recordings: Recordings,
    curves: Sequence[NDArray[np.float32]],
    hop_seconds: float,
    tested: NDArray[np.bool_],
    truth: NDArray[np.int64],
    labels: Sequence[str],
) -> list[plots.Spoken]:
    """Picks a few utterances to show, of speakers who test something where there are any.

    With labels: one of each emotion, of one speaker and sentence if possible, neutral first. Without: from
    the lowest to the highest mean.
    """
    front_end = FrontEnd()
    rows = np.flatnonzero(tested) if tested.any() else np.arange(len(curves))
    table = recordings.manifest.table
    if (truth[rows] >= 0).any():
        rows = rows[truth[rows] >= 0]
        said = (table["speaker"].astype(str) + " " + table["text"].astype(str)).to_numpy(str)[rows]
        names, group = np.unique(said, return_inverse=True)
        several = [len(np.unique(truth[rows[group == number]])) for number in range(len(names))]
        own = rows[group == int(np.argmax(several))]
        numbers = np.unique(truth[own]).tolist()
        first = {number: int(own[truth[own] == number][0]) for number in numbers}
        order = sorted(first, key=lambda number: (labels[number] != NEUTRAL, labels[number]))
        picked = np.array([first[number] for number in order], np.int64)
    else:
        means = np.array([curves[row].mean() for row in rows.tolist()])
        ranked = rows[np.argsort(means, kind="stable")]
        picked = ranked[np.unique(np.linspace(0, len(ranked) - 1, SHOWN).round().astype(int))]
    shown = []
    for row in picked[:SHOWN].tolist():
        waveform = torch.from_numpy(recordings.waveforms[row])[None]
        spectrogram = front_end(waveform, torch.tensor([waveform.shape[1]]))[0][0].numpy()
        emotion = f"{labels[truth[row]]}, " if truth[row] >= 0 else ""
        name = f"{emotion}{recordings.manifest.keys[row]}"
        shown.append(plots.Spoken(name, spectrogram, front_end.hop_seconds, curves[row], hop_seconds))
    return shown


def blocks(found: Findings, shown: Sequence[plots.Spoken]) -> list[Block]:
    """Lays the page out, its pictures drawn."""
    page: list[Block] = [*said(found), *_order(found), *_levels(found)]
    page += _confounds(found)
    if shown:
        png = plots.to_png(plots.curves(shown, name=found.column), dpi=110)
        alt = f"Curves over the spectrograms of {len(shown)} utterances"
        words = (
            "The curve is red over the spectrogram, its mean the dashed line. "
            + (
                "Only whole utterances were ranked: what a single frame says is the network's own guess."
                if found.source == "ranker"
                else ""
            )
        ).strip()
        page += [Heading("How it looks"), Text(words), Picture("curves.png", alt, png)]
    return [*page, *_how(found)]


def said(found: Findings) -> list[Text]:
    """Words what was found, the most important first."""
    made, quality = found.made, found.quality
    words = [
        Text(
            f"{found.utterances:,} curves, a value every {1000 * made.hop_seconds:g} ms, from 0 to 1 "
            f"within the "
            f"corpus: {SOURCES[found.source]}."
        )
    ]
    if found.unreadable:
        words.append(Text(f"Recordings that cannot be read, without a curve: {len(found.unreadable)}."))
    if made.with_labels:
        counts = sorted({len(names) for names in made.with_labels.values()})
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        each = " in each fold" if made.folds else ""
        words.append(
            Text(
                f"Labels of {many} speakers were seen{each}"
                + (f" ({made.protocol})" if made.protocol else "")
                + ". What is said below is of others."
            )
        )
    else:
        words.append(Text("No label was looked at to make them."))
    if not quality.utterances:
        return [*words, Text("No speaker is left to test the curves on.", alarm=True)]
    words.append(_order_words(found))
    if quality.levels:
        all_levels = quality.levels["intensity"][ALL]
        loud = quality.levels["loudness"][ALL]
        words.append(
            Text(
                "Of two acted levels of the same speaker, emotion and sentence, the stronger has the "
                "higher mean "
                f"in {percent(*all_levels)} % of pairs; by loudness alone it is {percent(*loud)} %."
            )
        )
    words.append(_confound_words(found))
    if quality.within.value == quality.within.value:
        share = f"{percent(*quality.within)} % of the variance of a speaker's values lies within utterances"
        flat = quality.within.value < FLAT
        more = (
            "the curves are nearly flat, and tell utterances apart more than the moments of one"
            if flat
            else "the rest between them"
        )
        words.append(Text(f"{share}; {more}.", alarm=flat))
    return words


def _order_words(found: Findings) -> Text:
    quality = found.quality
    if not quality.order:
        lacking = "no utterance has an emotion label" if not found.labels else "no speaker has both"
        return Text(
            f"Whether emotional speech lies above {NEUTRAL} speech cannot be said: {lacking}. Nor can "
            f"it be said "
            "whether the curves follow emotion at all.",
            alarm=True,
        )
    mine, loud = quality.order["intensity"][ALL], quality.order["loudness"][ALL]
    words = (
        f"Of an emotional and a {NEUTRAL} utterance of the same speaker, the emotional one has the "
        f"higher mean in "
        f"{percent(*mine)} % of pairs, over {quality.speakers} speakers; chance gives 50. By loudness "
        f"alone it is "
        f"{percent(*loud)} %."
    )
    if mine.low is not None and mine.low > CHANCE:
        return Text(words)
    below = mine.high is not None and mine.high < CHANCE
    fault = "That is the wrong way round." if below else "That cannot be told from chance."
    return Text(f"{words} {fault}", alarm=True)


def _confound_words(found: Findings) -> Text:
    loud = found.quality.correlations["loudness, by utterance"]
    frames = found.quality.correlations["loudness, by frame"]
    words = (
        f"Within a speaker, the mean goes with the loudness of the recording by {decimal(*loud)} "
        f"(Spearman); within "
        f"an utterance, the curve goes with the level of its frames by {decimal(*frames)} (Pearson)."
    )
    if found.source == "loudness":
        return Text(f"{words} The curve is the level itself.")
    close = [abs(each.value) for each in (loud, frames) if each.value == each.value]
    if max(close, default=0.0) > CLOSE:
        words += " That is close: where intensity helps, try --source loudness as the control."
    return Text(words)


def _order(found: Findings) -> list[Block]:
    order = found.quality.order
    if not order:
        return []
    names = list(order["intensity"])
    rows = []
    for name in names:
        mean = found.quality.means.get(name)
        figures = [percent(*order[by][name]) for by in ("intensity", "loudness", "duration")]
        rows.append(["all emotions" if name == ALL else name, *figures, decimal(mean)])
    neutral = found.quality.means.get(NEUTRAL)
    rows.append([NEUTRAL, "", "", "", decimal(neutral)])
    heads = [f"above {NEUTRAL}, % of pairs", "by the curve's mean", "by loudness", "by duration", "mean"]
    caption = (
        "Pairs of an emotional and a neutral utterance of one speaker, averaged over speakers with the 95 % "
        "interval; 50 is chance. Last: the mean of the curves"
    )
    own = [order["intensity"][name] for name in names]
    png = plots.to_png(
        plots.bars(
            ["all emotions" if name == ALL else name for name in names],
            [each.value for each in own],
            [np.nan if each.low is None else each.low for each in own],
            [np.nan if each.high is None else each.high for each in own],
            metric=f"pairs in which it lies above {NEUTRAL}",
            references={"chance": CHANCE, "loudness alone": order["loudness"][ALL].value},
        )
    )
    alt = "Share of pairs in the right order, by emotion"
    right = [False] + [True] * 4
    return [
        Heading(f"Does it lie above {NEUTRAL}?"),
        Picture("order.png", alt, png),
        Table(heads, rows, caption, right),
    ]


def _levels(found: Findings) -> list[Block]:
    levels = found.quality.levels
    if not levels:
        return []
    rows = [
        ["all pairs" if name == ALL else name, *(percent(*levels[by][name]) for by in levels)]
        for name in levels["intensity"]
    ]
    heads = ["lower < higher level, % of pairs", *(f"by {by}" for by in levels)]
    caption = "Pairs of two acted levels of one speaker, emotion and sentence; 0 is the lowest level"
    page: list[Block] = [
        Heading("Does it follow acted levels?"),
        Table(heads, rows, caption, [False] + [True] * len(levels)),
    ]
    if found.quality.level_correlation is not None:
        page.append(
            Text(
                "Spearman's correlation with the level within a speaker, each emotion and sentence centred: "
                f"{decimal(*found.quality.level_correlation)}."
            )
        )
    return page


def _confounds(found: Findings) -> list[Block]:
    figures = found.quality.correlations
    rows = [[name, decimal(*figure)] for name, figure in figures.items() if figure.value == figure.value]
    if not rows:
        return []
    caption = (
        "Correlation within a speaker (by utterance: Spearman's, of the mean; by frame: Pearson's, within "
        "utterances), averaged over speakers with the 95 % interval"
    )
    return [
        Heading("Is it something simpler?"),
        Text(
            "A voice shows emotion by its loudness too, so that some correlation is to be expected. "
            "A curve that is "
            "hardly more than loudness could be had without any label."
        ),
        Table(["goes with", "correlation"], rows, caption, [False, True]),
    ]


def _how(found: Findings) -> list[Block]:
    words = [
        "Figures are taken speaker by speaker and then averaged; intervals come from drawing the "
        "speakers with "
        "replacement 2,000 times."
    ]
    if found.made.ends:
        words.append(
            "0 and 1 are the 1st and the 99th percentile of a corpus's frames; what lies beyond is clipped."
        )
    if found.source == "ranker":
        words.append(
            "Rankers are linear and look at functionals of log-mel and pitch; the network looks at "
            "log-mel. Costs "
            "of the rankers and the epoch of the network were chosen on dev speakers, whose labels "
            "count as seen."
        )
    return [Heading("How it was measured"), *map(Text, words)]
