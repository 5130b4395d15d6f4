"""The page of an analysis of clusters: words, tables, and a map of every speaker."""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from affetto import plots
from affetto.analysis.agreement import MOST
from affetto.analysis.clusters_words import average, cluster_counts, p_value, said
from affetto.analysis.comparison import EMOTION, Analysis, Compared
from affetto.pages import Block, Heading, Picture, Table, Text, decimal, percent
from affetto.progress import progress

MEASURES = {
    "ami": "AMI, information shared above chance",
    "nmi": "NMI, information shared, which is also the V-measure",
    "homogeneity": "homogeneity, a cluster holds one emotion",
    "completeness": "completeness, an emotion lies in one cluster",
    "ari": "ARI, pairs that agree, above chance",
    "purity": "purity, utterances with their cluster's most frequent emotion",
    "silhouette": "silhouette of the emotions in the embeddings",
}
WAYS = {"tsne": "t-SNE", "pca": "PCA"}
MAPS_A_FIGURE = 6
PERPLEXITY = 30.0


def title(found: Analysis) -> str:
    """Returns the title of the page."""
    column = "" if found.settings.name == "cluster" else f" (column {found.settings.name})"
    return f"What the clusters of {', '.join(found.corpora) or 'this manifest'}{column} follow"


def blocks(found: Analysis) -> list[Block]:
    """Lays out an analysis, its pictures drawn."""
    page: list[Block] = [*said(found), *_followed(found)]
    if found.emotion:
        page += [*_emotion(found, found.emotion), *_held_fixed(found)]
    return [*page, *_maps(found), Heading("Speaker by speaker"), _by_speaker(found), *_how(found)]


def _followed(found: Analysis) -> list[Block]:
    if not found.compared:
        return []
    ranked = sorted(found.compared, key=lambda each: -each.averages["ami"].value)
    names = [each.column.name for each in ranked]
    figure = plots.followed(
        names,
        {each.column.name: each.followed.values["ami"] for each in ranked},
        {each.column.name: each.averages["ami"][:3] for each in ranked},
        emphasised=EMOTION,
    )
    alt = "AMI of the clusters with everything that was compared, speaker by speaker and on average"
    rows = []
    for each in ranked:
        figures = each.averages
        rows.append(
            [
                each.column.name,
                average(figures["ami"]),
                p_value(figures["ami"].p),
                f"{decimal(figures['nmi'].value)} ({decimal(figures['nmi'].chance)})",
                decimal(figures["ari"].value),
                f"{percent(figures['purity'].value)} ({percent(figures['purity'].chance)})",
                decimal(figures["silhouette"].value),
                str(int(np.isfinite(each.followed.values["ami"]).sum())),
            ]
        )
    heads = ["clusters against", "AMI", "p", "NMI", "ARI", "purity, %", "silhouette", "speakers"]
    caption = (
        "Means over speakers, with the 95 % interval, and in brackets what chance gives. Silhouette: how "
        "far apart its values lie in the embeddings, whatever the clusters are"
    )
    right = [False] + [True] * (len(heads) - 1)
    page: list[Block] = [
        Heading("What the clusters follow"),
        Picture("followed.png", alt, plots.to_png(figure)),
    ]
    page.append(Table(heads, rows, caption, right))
    if found.left_out:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in sorted(found.left_out.items()))
        page.append(Text(f"Not compared: {reasons}."))
    return page


def _emotion(found: Analysis, emotion: Compared) -> list[Block]:
    rows = []
    for name, words in MEASURES.items():
        figure = emotion.averages[name]
        rows.append([words, average(figure), decimal(figure.chance), p_value(figure.p)])
    caption = "Means over speakers, with the 95 % interval; p: how often chance brings as much"
    heads = ["clusters against emotion", "figure", "by chance", "p"]
    page: list[Block] = [Heading("Emotion"), Table(heads, rows, caption, [False, True, True, True])]
    if found.mates:
        rows = [
            [name, percent(share), percent(chance)]
            for name, share, chance in zip(found.emotions, *found.mates, strict=True)
        ]
        caption = (
            "Of the utterances that share a cluster with one of this emotion, how many have it too, in "
            "percent: what a network is told that draws its positives from the clusters"
        )
        page.append(Table(["emotion", "same emotion", "by chance"], rows, caption, [False, True, True]))
    return page


def _held_fixed(found: Analysis) -> list[Block]:
    rows = []
    for each in found.others:
        if each.against and each.emotion_left and each.left and each.shared:
            figures = (each.against, each.emotion_left, each.left, each.shared)
            rows.append([each.column.name, *(decimal(*figure) or "settled by it" for figure in figures)])
    if not rows:
        return []
    heads = ["", "emotion minus this", "emotion, this held fixed", "this, emotion held fixed"]
    heads.append("emotion with this")
    caption = (
        "AMI with the clusters, and last of emotion with this, whatever the clusters are. Held fixed: above "
        "deals among utterances of a speaker that are alike in it (in one bin of it), so that what is left "
        "comes of it by differences within a bin at the most"
    )
    words = (
        "A voice shows emotion by its loudness, pitch and speed, so clusters that know of emotion agree "
        "with these too. A sentence, a session or a file shows none: clusters that follow them follow an "
        "artefact."
    )
    page: list[Block] = [Heading("Emotion or something else"), Text(words)]
    return [*page, Table(heads, rows, caption, [False] + [True] * 4)]


def _maps(found: Analysis) -> list[Block]:
    settings = found.settings
    counts = np.bincount(found.groups, minlength=len(found.speakers))
    worth = found.emotion.followed.values["ami"] if found.emotion else found.own.values["silhouette"]
    order = [number for number in np.argsort(-worth, kind="stable").tolist() if counts[number] > 2]
    order = order[: settings.most_maps]
    if settings.map == "none" or not order:
        return []
    measure = "AMI" if found.emotion else "silhouette"
    colours = (
        "its colour is the emotion, its marker the cluster"
        if found.emotion
        else "colour and marker are its cluster"
    )
    words = (
        f"Each point is an utterance, laid flat by {WAYS[settings.map]} from the speaker's embeddings; "
        f"{colours}. Clusters are numbered speaker by speaker, so that a marker means something within one "
        f"map only; so do directions and distances between groups. The speakers with the highest {measure} "
        "come first."
    )
    if len(order) < len(found.speakers):
        words += f" {len(order)} of {len(found.speakers)} speakers are drawn."
    drawn = []
    for number in progress(order, "maps"):
        own = np.flatnonzero(found.groups == number)
        value = decimal(float(worth[number]))
        value = f"{measure} {value}" if value else f"no {measure}"
        head = f"speaker {found.speakers[number]}: {value}, {len(own)} utterances"
        own = np.sort(np.random.default_rng(settings.seed).permutation(own)[:MOST])
        places = flat(found.vectors[own], settings.map, settings.seed)
        drawn.append(plots.Map(head, places, found.truth[own], found.clusters[own]))
    page: list[Block] = [Heading("Maps"), Text(words)]
    labels = found.emotions if found.emotion else []
    for first in range(0, len(drawn), MAPS_A_FIGURE):
        part = drawn[first : first + MAPS_A_FIGURE]
        png = plots.to_png(plots.speaker_maps(part, labels), dpi=110)
        alt = f"Maps of {len(part)} speakers, {part[0].title} to {part[-1].title}"
        page.append(Picture(f"maps-{first // MAPS_A_FIGURE + 1:02d}.png", alt, png))
    return page


def flat(vectors: NDArray[np.floating], way: str, seed: int) -> NDArray[np.float64]:
    """Lays vectors ``(N, D)`` flat by direction, ``(N, 2)``; of few vectors t-SNE makes nothing, PCA does."""
    values = np.asarray(vectors, np.float64)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    if way == "tsne" and len(values) > 5 and len(np.unique(values, axis=0)) > 5:
        perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed).fit_transform(values), np.float64)
    return np.asarray(PCA(2, random_state=seed).fit_transform(values), np.float64)


def _by_speaker(found: Analysis) -> Table:
    counts = np.bincount(found.groups, minlength=len(found.speakers))
    numbers = cluster_counts(found)
    emotion = found.emotion
    heads = ["speaker", "utterances", "clusters", "silhouette"]
    heads += ["AMI", "p", "NMI", "ARI", "purity, %"] if emotion else []
    heads += [f"AMI with {each.column.name}" for each in found.others]
    worth = emotion.followed.values["ami"] if emotion else found.own.values["silhouette"]
    rows = []
    for number in np.argsort(worth, kind="stable").tolist():
        row = [found.speakers[number], str(counts[number]), str(numbers[number])]
        row.append(decimal(float(found.own.values["silhouette"][number])))
        if emotion:
            values = emotion.followed.values
            row += [decimal(float(values["ami"][number])), p_value(float(emotion.followed.p["ami"][number]))]
            row += [decimal(float(values[name][number])) for name in ("nmi", "ari")]
            row.append(percent(float(values["purity"][number])))
        row += [decimal(float(each.followed.values["ami"][number])) for each in found.others]
        rows.append(row)
    caption = f"By speaker, the lowest {'AMI with emotion' if emotion else 'silhouette'} first"
    return Table(heads, rows, caption, [False] + [True] * (len(heads) - 1), folded=True)


def _how(found: Analysis) -> list[Block]:
    settings = found.settings
    binned = [each.column.name for each in found.others if each.column.bins]
    words = [
        f"By chance is the mean of {settings.permutations} deals of a speaker's values among the same "
        "utterances; p is the share of deals that come as high, the data itself counted in, so at least "
        f"{1 / (1 + settings.permutations):.3f}. Intervals are over speakers, who are drawn with "
        f"replacement {settings.draws:,} times. Figures of clusters are taken speaker by speaker, for "
        "clusters are numbered within a speaker; a speaker in whom something does not vary has no figure "
        "for it.",
        f"Silhouettes are by cosine distance; like maps they take at most {MOST:,} utterances a speaker.",
    ]
    if binned:
        words.append(
            f"Numbers ({', '.join(binned)}) are put into {found.bins} equally filled bins, speaker by "
            "speaker. Loudness is the root mean square of the whole recording, pitch the median over its "
            "voiced frames."
        )
    if found.probe:
        words.append(
            "The linear layer is a logistic regression on standardised embeddings, classes balanced, in "
            f"{settings.folds} folds by speaker; its UAR is over the folds together."
        )
    return [Heading("How it was measured"), *map(Text, words)]
