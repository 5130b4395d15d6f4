"""What an analysis of clusters shows, in plain words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affetto.analysis.comparison import Analysis, Average, Compared
from affetto.corpora.manifest import some
from affetto.evaluation.bootstrap import Interval
from affetto.pages import Text, decimal, percent, points

DEGREES = ((0.1, "weakly"), (0.3, "partly"), (0.6, "clearly"), (np.inf, "closely"))
CHANCE = 0.05
SMALL = 0.05


def said(found: Analysis) -> list[Text]:
    """Words an analysis, the emotions first."""
    return [
        Text(_what(found)),
        *map(Text, found.notes),
        _of_emotion(found),
        *_of_others(found),
        *_of_probe(found),
    ]


def average(figure: Average) -> str:
    """Writes an average with its interval."""
    return decimal(figure.value, figure.low, figure.high)


def p_value(p: float) -> str:
    """Writes how often chance brings as much."""
    return "" if p != p else f"{p:.3f}"


def cluster_counts(found: Analysis) -> NDArray[np.int64]:
    """Returns how many clusters each speaker has, ``(G,)``."""
    pairs = np.unique(np.stack([found.groups, found.clusters])[:, found.clusters >= 0], axis=1)
    return np.bincount(pairs[0], minlength=len(found.speakers))


def _what(found: Analysis) -> str:
    numbers = cluster_counts(found)
    least, most = numbers[numbers > 0].min(), numbers.max()
    words = (
        f"{len(found.groups):,} utterances of {_speakers(len(found.speakers))}; "
        f"{int((found.clusters >= 0).sum()):,} of them lie in clusters, "
        f"{least if least == most else f'{least} to {most}'} a speaker. Embeddings: {found.encoder}."
    )
    if least < 1 or not numbers.all():
        without = [name for name, count in zip(found.speakers, numbers, strict=True) if not count]
        words += f" Without clusters, and left out: {_speakers(len(without))} ({some(without)})."
    if found.apart.value == found.apart.value:
        words += (
            f" The silhouette of the clusters is {average(found.apart)}, where 1 is far apart and 0 is "
            f"touching; clusters dealt at random have {decimal(found.apart.chance)}."
        )
    return words


def _of_emotion(found: Analysis) -> Text:
    emotion = found.emotion
    if emotion is None:
        lacking = "No speaker has clustered utterances of two emotions"
        return Text(
            f"{lacking if found.emotions else 'No utterance has an emotion label'}. So nothing here says "
            "whether the clusters follow emotion, nor what a linear layer would read of it. What they "
            "follow besides is said below; the rest may be emotion, or anything that was not compared.",
            alarm=True,
        )
    ami, purity, own = emotion.averages["ami"], emotion.averages["purity"], emotion.followed.p["ami"]
    own = own[np.isfinite(own)]
    if _above_chance(ami):
        degree = next(word for limit, word in DEGREES if ami.value < limit)
        words = (
            f"The clusters follow emotion {degree}: AMI {average(ami)}, where 0 is chance and 1 is perfect"
        )
    else:
        words = f"The clusters do not follow emotion: AMI {average(ami)}, and chance brings as much or more"
    return Text(
        f"{words} (p {p_value(ami.p)}). Of {_speakers(len(own))}, {int((own <= CHANCE).sum())} lie above "
        f"{100 * (1 - CHANCE):.0f} % of their own deals, where chance alone lifts 1 in {1 / CHANCE:.0f}. In "
        f"the average speaker {percent(purity.value)} % of the utterances have the most frequent emotion of "
        f"their cluster, and by chance {percent(purity.chance)} %."
    )


def _of_others(found: Analysis) -> list[Text]:
    if not found.others:
        return [
            Text(
                "Nothing else could be compared: a channel, a sentence or anything else that goes with the "
                "clusters would not show here.",
                alarm=True,
            )
        ]
    above = [each for each in found.others if _above_chance(each.averages["ami"])]
    emotion = found.emotion
    if emotion is None:
        names = f"What they follow above chance: {_listed(above)}." if above else "They follow nothing else."
        return [Text(names)]
    mine = f"emotion (AMI {decimal(emotion.averages['ami'].value)})"
    if not _above_chance(emotion.averages["ami"]):
        if not above:
            return [Text("They follow nothing else that was compared either.")]
        return [_instead(above, f"The clusters follow {_listed(above)}, and not {mine}.")]
    more = [each for each in above if _sign(each) < 0]
    even = [each for each in above if _sign(each) == 0]
    words = [_instead(more, f"The clusters follow {_listed(more)} more than {mine}.")] if more else []
    if even:
        words.append(
            Text(f"They follow {_listed(even)} as much as {mine}, as far as these speakers can tell.")
        )
    if not words:
        nearest = _listed(found.others[:3])
        words.append(
            Text(f"Nothing else that was compared is followed as much as {mine}; the nearest: {nearest}.")
        )
    return [*words, *_of_the_rest(found)]


def _instead(followed: Sequence[Compared], words: str) -> Text:
    names = " or ".join(each.column.name for each in followed)
    return Text(f"{words} What is learned from them may be {names}, and not emotion.", alarm=True)


def _of_the_rest(found: Analysis) -> list[Text]:
    """Words how much of the agreement with emotion is left when something else is held fixed."""
    if not found.emotion or not _above_chance(found.emotion.averages["ami"]):
        return []
    taken, settled = [], []
    for each in found.others:
        whole, left = each.emotion, each.emotion_left
        if whole and left and whole.value > 0:
            if left.value == left.value:
                taken.append((1 - left.value / whole.value, each.column.name, left))
            else:
                settled.append(each.column.name)
    words = []
    if settled:
        names = " and ".join(settled)
        text = (
            f"What is alike in {names} has one emotion, in every speaker: the two cannot be told apart here."
        )
        words.append(Text(text, alarm=True))
    return [*words, _most_taken(*max(taken))] if taken else words


def _most_taken(share: float, name: str, left: Interval) -> Text:
    words = f"Dealt only among utterances of a speaker that are alike in {name}, emotions "
    if (left.value if left.low is None else left.low) <= 0:
        text = f"{words}agree with the clusters no better than by chance: {name} may be all of it."
        return Text(text, alarm=True)
    part = "next to nothing" if share < SMALL else f"about {100 * share:.0f} %"
    return Text(
        f"{words}still agree with the clusters by AMI {decimal(*left)} above chance: {part} of the "
        f"agreement with emotion goes with {name}, and with nothing else that was compared goes more."
    )


def _of_probe(found: Analysis) -> list[Text]:
    probe = found.probe
    if len(found.emotions) < 2:
        return []
    if probe is None:
        return [Text("No linear layer was fitted to the embeddings: that takes labels of several speakers.")]
    raw, centred, gain = (percent(*probe.raw), percent(*probe.centred), points(*probe.gain[:3]))
    return [
        Text(
            f"A linear layer fitted on other speakers reads emotion from the embeddings with UAR {raw} % "
            f"(chance {percent(1 / len(found.emotions))}), and with {centred} % once each speaker's mean is "
            f"taken away: {gain} points. That mean is taken over all utterances of a speaker, without their "
            "labels; where a speaker's emotions are not balanced, expect less."
        )
    ]


def _above_chance(figure: Average) -> bool:
    return figure.p <= CHANCE and figure.value > 0


def _sign(each: Compared) -> int:
    """Says whether emotion is followed more (1), less (-1), or nobody can tell (0)."""
    gap = each.against
    if gap is None or gap.value != gap.value:
        return 0
    low, high = (gap.value, gap.value) if gap.low is None or gap.high is None else (gap.low, gap.high)
    return int(low > 0) - int(high < 0)


def _listed(compared: Sequence[Compared]) -> str:
    return ", ".join(f"{each.column.name} (AMI {average(each.averages['ami'])})" for each in compared)


def _speakers(count: int) -> str:
    return f"{count} speaker{'s' * (count != 1)}"
