"""The page of ``analyse clusters``, and its figures as JSON."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from affetto.analysis.agreement import MOST
from affetto.analysis.comparison import EMOTION, Analysis, Average, Compared
from affetto.analysis.plots import Map, agreement_by_speaker, speaker_maps
from affetto.errors import some
from affetto.pages import Block, Heading, Page, Picture, Table, Text, decimal, percent, points
from affetto.plots import to_png
from affetto.progress import progress

MEASURES = {
    "ami": "AMI, mutual information above chance",
    "nmi": "NMI, which equals the V-measure",
    "homogeneity": "homogeneity, a cluster holds one emotion",
    "completeness": "completeness, an emotion is in one cluster",
    "ari": "ARI, pairs that agree, above chance",
    "purity": "purity, utterances with their cluster's most frequent emotion",
    "silhouette": "silhouette of the emotions in the embeddings",
}
PROJECTIONS = {"tsne": "t-SNE", "pca": "PCA"}
MAPS_A_FIGURE = 6
PERPLEXITY = 30.0
ALPHA = 0.05


def clusters_page(found: Analysis) -> Page:
    """Lays out an analysis, with its figures."""
    column = "" if found.settings.name == "cluster" else f" (column {found.settings.name})"
    title = f"Agreement of the clusters of {', '.join(found.corpora) or 'this manifest'}{column}"
    page: list[Block] = [*overview(found)]
    page += _agreement(found) if found.compared else []
    page += [*_emotion(found, found.emotion), *_confounds(found)] if found.emotion else []
    return Page(title, [*page, *_maps(found), Heading("By speaker"), _by_speaker(found), *_method(found)])


def overview(found: Analysis) -> Iterator[Text]:
    """Yields the main figures and the warnings, a sentence each."""
    counts = found.speakers["clusters"]
    fewest, most = counts[counts > 0].min(), counts.max()
    number = most if fewest == most else f"{fewest} to {most}"
    yield Text(
        f"{len(found.groups):,} utterances of {_speakers(len(counts))}, "
        f"{int((found.clusters >= 0).sum()):,} in {number} clusters a speaker; "
        f"embeddings: {found.encoder}."
    )
    if not counts.all():
        without = found.speakers.loc[counts == 0, "speaker"]
        yield Text(f"Without clusters, and left out: {_speakers(len(without))} ({some(without)}).")
    yield from map(Text, found.notes)
    if found.emotion is None:
        lacking = "No speaker has clustered utterances of two emotions"
        lacking = lacking if found.emotions else "No utterance has an emotion label"
        yield Text(f"{lacking}: agreement with emotion cannot be measured.", alarm=True)
    for each in found.compared:
        if each is found.emotion or not found.emotion:
            ami = each.averages["ami"]
            yield Text(
                f"AMI of the clusters with {each.column.name}: {decimal(*ami[:3])}, p {_p(ami.p)} (0 is "
                "chance, 1 is equal)."
            )
    if found.probe:
        raw, centred = percent(*found.probe.raw), percent(*found.probe.centred)
        gain = points(*found.probe.gain[:3])
        yield Text(
            f"Linear probe of emotion on the embeddings, tested on other speakers: UAR {raw} % (chance "
            f"{percent(1 / len(found.emotions))}); with each speaker's mean subtracted {centred} %, {gain} "
            "points."
        )
    elif len(found.emotions) > 1:
        yield Text("No linear probe was trained: it needs labels of several speakers.")
    yield from (Text(warning, alarm=True) for warning in _warnings(found))


def _warnings(found: Analysis) -> Iterator[str]:
    if not found.others:
        yield "Nothing else could be compared: a confound would not show here."
    if found.emotion is None:
        return
    emotion = found.emotion.averages["ami"]
    for each in found.others:
        ami, name = each.averages["ami"], each.column.name
        if not _above_chance(ami):
            continue
        gap, beyond = (each.with_emotion[of] for of in ("emotion_minus_this", "emotion_beyond_this"))
        if not _above_chance(emotion) or (gap.value if gap.high is None else gap.high) < 0:
            yield (
                f"The clusters agree more with {name} (AMI {decimal(*ami[:3])}) than with emotion (AMI "
                f"{decimal(emotion.value)}): a network trained on them may learn {name}."
            )
        if math.isnan(beyond.value):
            alike = f"Utterances equal in {name} have one emotion in every speaker"
            yield f"{alike}: the two cannot be separated."
        elif _above_chance(emotion) and (beyond.value if beyond.low is None else beyond.low) <= 0:
            yield f"Within equal {name}, the clusters agree with emotion no more than by chance."


def _agreement(found: Analysis) -> list[Block]:
    ranked = sorted(found.compared, key=lambda each: -each.averages["ami"].value)
    figure = agreement_by_speaker(
        {each.column.name: each.agreement.values["ami"] for each in ranked},
        {each.column.name: each.averages["ami"][:3] for each in ranked},
        EMOTION,
    )
    rows = []
    for each in ranked:
        ami, nmi, ari, purity, silhouette = (
            each.averages[name] for name in ("ami", "nmi", "ari", "purity", "silhouette")
        )
        plain = [f"{decimal(nmi.value)} ({decimal(nmi.chance)})", decimal(ari.value)]
        plain += [f"{percent(purity.value)} ({percent(purity.chance)})", decimal(silhouette.value)]
        speakers = str(int(np.isfinite(each.agreement.values["ami"]).sum()))
        rows.append([each.column.name, decimal(*ami[:3]), _p(ami.p), *plain, speakers])
    heads = ["clusters and", "AMI", "p", "NMI", "ARI", "purity, %", "silhouette", "speakers"]
    caption = (
        "Means over speakers with the 95 % interval; in brackets the mean of permutations. Silhouette: of "
        "the column in the embeddings, whatever the clusters are"
    )
    alt = "AMI of the clusters with everything that was compared, by speaker and on average"
    picture = Picture("agreement.png", alt, to_png(figure))
    page: list[Block] = [Heading("Agreement"), picture, Table(heads, rows, caption)]
    if found.left_out:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in sorted(found.left_out.items()))
        page.append(Text(f"Not compared: {reasons}."))
    return page


def _emotion(found: Analysis, emotion: Compared) -> list[Block]:
    rows = []
    for name, words in MEASURES.items():
        figure = emotion.averages[name]
        rows.append([words, decimal(*figure[:3]), decimal(figure.chance), _p(figure.p)])
    heads = ["clusters and emotion", "mean", "chance", "p"]
    caption = "Means over speakers with the 95 % interval; p: share of permutations that reach the mean"
    page: list[Block] = [Heading("Emotion"), Table(heads, rows, caption)]
    if found.partners is not None:
        shares = zip(found.emotions, found.partners["share"], found.partners["chance"], strict=True)
        rows = [[name, percent(share), percent(chance)] for name, share, chance in shares]
        caption = (
            "Utterances that share a cluster with one of this emotion: how many have the same emotion, in "
            "percent. These are the positives of a contrastive pretraining on the clusters"
        )
        page.append(Table(["emotion", "same emotion", "chance"], rows, caption))
    return page


def _confounds(found: Analysis) -> list[Block]:
    rows = [
        [each.column.name, *(decimal(*figure) or "determined" for figure in each.with_emotion.values())]
        for each in found.others
    ]
    if not rows:
        return []
    heads = ["", "emotion minus this", "emotion within this", "this within emotion", "emotion with this"]
    caption = (
        "AMI with the clusters; in the last column AMI of emotion with this. Within: above permutations "
        "among utterances of a speaker that are equal in the other (in the same bin)"
    )
    return [Heading("Confounds"), Table(heads, rows, caption)]


def _maps(found: Analysis) -> list[Block]:
    settings = found.settings
    measure, ranked = _ranked(found)
    shown = ranked[ranked["utterances"] > 2].sort_values("worth", ascending=False, kind="stable")
    shown = shown[: settings.most_maps]
    if settings.map == "none" or shown.empty:
        return []
    colours = "colour: emotion, marker: cluster" if found.emotion else "colour and marker: cluster"
    words = (
        f"A point is an utterance, its embedding projected by {PROJECTIONS[settings.map]}; {colours}. "
        f"Markers, directions and distances mean something within one map only. Highest {measure} first."
    )
    if len(shown) < len(found.speakers):
        words += f" {len(shown)} of {len(found.speakers)} speakers are drawn."
    drawn = []
    for number, row in progress(list(shown.iterrows()), "maps"):
        own = np.flatnonzero(found.groups == number)
        value = decimal(row["worth"])
        value = f"{measure} {value}" if value else f"no {measure}"
        head = f"speaker {row['speaker']}: {value}, {len(own)} utterances"
        own = np.sort(np.random.default_rng(settings.seed).permutation(own)[:MOST])
        places = project(found.vectors[own], settings.map, settings.seed)
        drawn.append(Map(head, places, found.truth[own], found.clusters[own]))
    page: list[Block] = [Heading("Maps"), Text(words)]
    labels = found.emotions if found.emotion else []
    for number, first in enumerate(range(0, len(drawn), MAPS_A_FIGURE), start=1):
        part = drawn[first : first + MAPS_A_FIGURE]
        alt = f"Maps of {len(part)} speakers, {part[0].title} to {part[-1].title}"
        page.append(Picture(f"maps-{number:02d}.png", alt, to_png(speaker_maps(part, labels), dpi=110)))
    return page


def project(vectors: NDArray[np.floating], method: str, seed: int) -> NDArray[np.float64]:
    """Projects the directions of vectors ``(N, D)`` to ``(N, 2)``; where t-SNE has too few, by PCA."""
    values = np.asarray(vectors, np.float64)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    if method == "tsne" and len(values) > 5 and len(np.unique(values, axis=0)) > 5:
        perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed).fit_transform(values), np.float64)
    return np.asarray(PCA(2, random_state=seed).fit_transform(values), np.float64)


def _by_speaker(found: Analysis) -> Table:
    emotion, (measure, ranked) = found.emotion, _ranked(found)
    heads = ["speaker", "utterances", "clusters", "silhouette"]
    heads += ["AMI", "p", "NMI", "ARI", "purity, %"] if emotion else []
    heads += [f"AMI with {each.column.name}" for each in found.others]
    rows = []
    for number, speaker, utterances, clusters, silhouette, _ in ranked.itertuples():
        row = [speaker, str(utterances), str(clusters), decimal(silhouette)]
        if emotion:
            values = {name: each[number] for name, each in emotion.agreement.values.items()}
            row += [decimal(values["ami"]), _p(emotion.agreement.p["ami"][number])]
            row += [decimal(values["nmi"]), decimal(values["ari"]), percent(values["purity"])]
        rows.append(row + [decimal(each.agreement.values["ami"][number]) for each in found.others])
    return Table(heads, rows, f"By speaker, the lowest {measure} first", folded=True)


def _ranked(found: Analysis) -> tuple[str, pd.DataFrame]:
    """Returns the measure by which speakers are ordered, and them with its values, ``worth``, rising."""
    if found.emotion:
        measure, worth = "AMI", found.emotion.agreement.values["ami"]
    else:
        measure, worth = "silhouette", found.speakers["silhouette"].to_numpy()
    return measure, found.speakers.assign(worth=worth).sort_values("worth", kind="stable")


def _method(found: Analysis) -> list[Block]:
    settings = found.settings
    binned = [each.column for each in found.others if each.column.bins]
    words = [
        f"Chance: the mean of {settings.permutations} permutations of a speaker's values; p: the share of "
        "permutations that reach the value, the data counted in. Intervals: bootstrap over speakers, "
        f"{settings.draws:,} draws. A speaker in whom a column does not vary has no value for it. "
        f"Silhouettes use cosine distance; like maps they take at most {MOST:,} utterances a speaker.",
    ]
    if binned:
        words.append(
            f"Numbers ({', '.join(column.name for column in binned)}) are put into {binned[0].bins} "
            "quantile bins of each speaker. Loudness is the root mean square of the recording, pitch the "
            "median over voiced frames."
        )
    if found.probe:
        words.append(
            f"The probe is a balanced logistic regression on standardised embeddings in {settings.folds} "
            "folds by speaker; UAR is over all folds together. A speaker's mean is taken over all "
            "utterances, without labels."
        )
    return [Heading("Method"), *map(Text, words)]


def _above_chance(ami: Average) -> bool:
    return ami.p <= ALPHA and ami.value > 0


def _p(p: float) -> str:
    return "" if math.isnan(p) else f"{p:.3f}"


def _speakers(count: int) -> str:
    return f"{count} speaker{'s' * (count != 1)}"
