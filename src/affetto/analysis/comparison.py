"""What an analysis of clusters holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from affetto.analysis.agreement import Codes, Followed, Mates
from affetto.analysis.confounds import Column
from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN
from affetto.evaluation.bootstrap import Difference, Interval

EMOTION = "emotion"


class AnalyseSettings(Settings):
    """How clusters are analysed.

    Attributes:
        name: the column of the clusters, numbered within each speaker.
        embedding: the column of the embeddings, for silhouettes, the probe and the maps.
        encoder: the encoder that must have made them; None for any one.
        map: how a speaker's embeddings are laid flat; ``none`` draws no maps.
        most_maps: how many speakers get one at the most.
        bins: how many bins a speaker's durations, levels and other numbers are put into; None for as many as
            there are emotions, or 5 without.
        measure: whether to measure duration, loudness and pitch from the recordings.
        folds: of the probe.
        permutations: how often labels are dealt anew, for what chance gives.
        draws: of speakers, for the intervals.
        seed: of deals, draws, folds and maps.
    """

    name: str = "cluster"
    embedding: str = SPEAKER_COLUMN
    encoder: str | None = None
    map: Literal["tsne", "pca", "none"] = "tsne"
    most_maps: int = Field(120, ge=1)
    bins: int | None = Field(None, ge=2)
    measure: bool = True
    folds: int = Field(5, ge=2)
    permutations: int = Field(200, ge=20)
    draws: int = Field(2000, ge=100)
    seed: int = 0


class Average(NamedTuple):
    """A mean over speakers, its interval, what chance gives, and how often chance gives as much."""

    value: float
    low: float | None
    high: float | None
    chance: float
    p: float


@dataclass(frozen=True)
class Compared:
    """Something that clusters may follow, and how far they do.

    Attributes:
        column: what it is.
        followed: by the clusters.
        separated: by the embeddings, whatever the clusters are.
        averages: both, over speakers, by measure.
        against: AMI with emotion minus AMI with this; None without emotions, like what follows.
        emotion: AMI with emotion of the utterances in which this is known.
        emotion_left: AMI with emotion above what comes of this: above deals among utterances equal in this.
        left: AMI with this above what comes of emotion.
        shared: AMI of emotion with this, whatever the clusters are.
    """

    column: Column
    followed: Followed
    separated: Followed
    averages: dict[str, Average]
    against: Interval | None = None
    emotion: Interval | None = None
    emotion_left: Interval | None = None
    left: Interval | None = None
    shared: Interval | None = None


@dataclass(frozen=True)
class Probe:
    """UAR of emotion read by a linear layer from speakers it was not fitted on."""

    raw: Interval
    centred: Interval
    gain: Difference


@dataclass(frozen=True)
class Analysis:
    """What is known of the clusters of a manifest.

    Attributes:
        settings: how it was found.
        corpora: what was looked at.
        encoder: who made the embeddings.
        speakers: the G speakers, in order.
        groups: speaker of each of the N utterances that have an embedding.
        clusters: cluster of each, -1 for none.
        emotions: the K emotions.
        truth: emotion of each, -1 for none.
        vectors: embedding of each, (N, D).
        own: how far clusters lie apart: their silhouette.
        apart: that, over speakers.
        compared: what they may follow, emotion first where it can be said, then by AMI.
        mates: who shares a cluster with whom, by emotion; None without emotions.
        probe: None where there can be none.
        bins: how many bins numbers were put into.
        left_out: what could not be compared, and why.
        unreadable: recordings that could not be measured, and why.
        notes: what else the reader must know.
    """

    settings: AnalyseSettings
    corpora: list[str]
    encoder: str
    speakers: list[str]
    groups: Codes
    clusters: Codes
    emotions: list[str]
    truth: Codes
    vectors: NDArray[np.float32]
    own: Followed
    apart: Average
    compared: list[Compared]
    mates: Mates | None
    probe: Probe | None
    bins: int
    left_out: dict[str, str]
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def emotion(self) -> Compared | None:
        """How far clusters follow emotion; None where nothing can be said of it."""
        return next((each for each in self.compared if each.column.name == EMOTION), None)

    @property
    def others(self) -> list[Compared]:
        """What else was compared, the most followed first."""
        return [each for each in self.compared if each.column.name != EMOTION]


def summary(found: Analysis) -> dict[str, Any]:
    """Returns every figure in a form for JSON; None where there is none."""
    speakers = []
    for number, name in enumerate(found.speakers):
        inside = found.groups == number
        used = np.unique(found.clusters[inside & (found.clusters >= 0)])
        speakers.append(
            {
                "speaker": name,
                "utterances": int(inside.sum()),
                "clusters": len(used),
                "silhouette": float(found.own.values["silhouette"][number]),
                "followed": {each.column.name: _of_speaker(each, number) for each in found.compared},
            }
        )
    compared = {
        each.column.name: {
            "speakers": int(np.isfinite(each.followed.values["ami"]).sum()),
            "bins": each.column.bins or None,
            **{measure: average._asdict() for measure, average in each.averages.items()},
            "emotion_minus_this": each.against and each.against._asdict(),
            "emotion_here": each.emotion and each.emotion._asdict(),
            "emotion_beyond_this": each.emotion_left and each.emotion_left._asdict(),
            "this_beyond_emotion": each.left and each.left._asdict(),
            "emotion_with_this": each.shared and each.shared._asdict(),
        }
        for each in found.compared
    }
    probed = found.probe and {
        "raw": found.probe.raw._asdict(),
        "centred": found.probe.centred._asdict(),
        "gain": found.probe.gain._asdict(),
    }
    mates = found.mates and {
        name: {"share": share, "chance": chance}
        for name, share, chance in zip(found.emotions, *map(np.ndarray.tolist, found.mates), strict=True)
    }
    figures = {
        "corpora": found.corpora,
        "clusters": found.settings.name,
        "encoder": found.encoder,
        "emotions": found.emotions,
        "utterances": len(found.groups),
        "clustered": int((found.clusters >= 0).sum()),
        "silhouette": found.apart._asdict(),
        "followed": compared,
        "mates": mates,
        "probe": probed,
        "not_compared": found.left_out,
        "unreadable": found.unreadable,
        "notes": list(found.notes),
        "speakers": speakers,
    }
    return {name: _without_nan(value) for name, value in figures.items()}


def _of_speaker(each: Compared, number: int) -> dict[str, float]:
    figures = {measure: float(values[number]) for measure, values in each.followed.values.items()}
    silhouette = float(each.separated.values["silhouette"][number])
    return figures | {"p": float(each.followed.p["ami"][number]), "silhouette": silhouette}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
