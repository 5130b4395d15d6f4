"""Agreement of clusters with emotion, and with each confound."""

import math
from dataclasses import dataclass
from operator import or_
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from affetto.analysis.agreement import (
    Agreement,
    Codes,
    cluster_partners,
    measure_agreement,
    measure_separation,
    probe,
)
from affetto.analysis.confounds import Column, columns, measured
from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN, read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import lacks
from affetto.errors import ManifestError, some
from affetto.evaluation.bootstrap import (
    Difference,
    Interval,
    paired_difference,
    speaker_bootstrap,
    speaker_mean,
)
from affetto.material.recordings import speaker_names
from affetto.progress import progress
from affetto.vectors.spaces import centred

EMOTION = "emotion"


class AnalyseSettings(Settings):
    """Settings of ``analyse clusters``.

    ``name`` is the column of the clusters, ``embedding`` that of the embeddings, for silhouettes, the probe
    and the maps, and ``encoder`` what must have made them, None for any. ``bins`` are quantiles of durations
    and other numbers of a speaker, None for as many as there are emotions, or 5. ``measure``: duration,
    loudness and pitch of the recordings. ``permutations`` are of labels, for chance, ``draws`` of speakers,
    for intervals, ``folds`` those of the probe.
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
    """A mean over speakers, its interval, the mean over permutations, and the share of them that reach it."""

    value: float
    low: float | None
    high: float | None
    chance: float
    p: float


class Compared(NamedTuple):
    """Agreement of the clusters with a column: by speaker, and averages by measure.

    The measure ``silhouette`` is that of the column in the embeddings. ``with_emotion`` has four means of
    AMI, or none for emotion itself: with emotion minus with this (``emotion_minus_this``); above permutations
    within this (``emotion_beyond_this``); of this, above permutations within emotion
    (``this_beyond_emotion``); of emotion with this (``emotion_with_this``).
    """

    column: Column
    agreement: Agreement
    averages: dict[str, Average]
    with_emotion: dict[str, Interval]


class Probed(NamedTuple):
    """UAR of a linear probe on the embeddings, on these minus the speaker's mean, and the difference."""

    raw: Interval
    centred: Interval
    gain: Difference


@dataclass(frozen=True)
class Analysis:
    """Result for ``N`` utterances that have an embedding, of ``G`` speakers and ``K`` emotions.

    ``groups``, ``clusters`` and ``truth`` are codes ``(N,)``; ``speakers`` has a row a speaker: name, number
    of utterances and clusters, and the silhouette of the clusters, whose average is ``silhouette``.
    ``compared`` has emotion first, then the others by AMI; ``partners`` and ``probe`` are None without
    emotions; ``left_out`` and ``unreadable`` give reasons.
    """

    settings: AnalyseSettings
    corpora: list[str]
    encoder: str
    speakers: pd.DataFrame
    groups: Codes
    clusters: Codes
    emotions: list[str]
    truth: Codes
    vectors: NDArray[np.float32]
    silhouette: Average
    compared: list[Compared]
    partners: pd.DataFrame | None
    probe: Probed | None
    left_out: dict[str, str]
    unreadable: dict[str, str]
    notes: list[str]

    @property
    def emotion(self) -> Compared | None:
        """Agreement with emotion; None where there is nothing to measure."""
        return next((each for each in self.compared if each.column.name == EMOTION), None)

    @property
    def others(self) -> list[Compared]:
        """Agreement with everything else, the highest first."""
        return [each for each in self.compared if each.column.name != EMOTION]


def read_clusters(
    manifest: Manifest, settings: AnalyseSettings
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Returns which utterances have an embedding, ``(N,)``, and the embeddings of these."""
    manifest.require("speaker")
    for name, verb in ((settings.name, "clusters"), (settings.embedding, "speakers")):
        if name not in manifest.table.columns:
            raise ManifestError(f"{lacks(name, manifest.table.columns)}; affetto annotate {verb} makes it")
        if manifest.table[name].isna().all():
            raise ManifestError(f"the column {name!r} is empty in every row; run affetto annotate {verb}")
    embedded = vector_places(manifest, settings.embedding)[1][:, 0] >= 0
    if manifest.table.loc[embedded, settings.name].isna().all():
        raise ManifestError(
            f"no utterance with an embedding has a {settings.name}; run affetto annotate clusters"
        )
    return embedded, read_vectors(manifest.where(embedded), settings.embedding, settings.encoder)


def compare_clusters(
    manifest: Manifest, settings: AnalyseSettings, embedded: NDArray[np.bool_], vectors: NDArray[np.float32]
) -> Analysis:
    """Measures agreement with emotion, with measures of the recordings and with columns of the manifest.

    ``embedded`` and ``vectors`` are from :func:`read_clusters`.
    """
    measures, unreadable, notes = _measured(manifest, settings)
    if not embedded.all():
        notes.append(f"{int((~embedded).sum()):,} utterances have no embedding and are left out.")
    manifest = manifest.where(embedded)
    table = manifest.table
    names, groups = np.unique(speaker_names(manifest), return_inverse=True)
    truth, emotions = pd.factorize(table[EMOTION], sort=True)
    emotion = Column(EMOTION, np.asarray(truth, np.int64))
    clusters = np.asarray(pd.factorize(table[settings.name], sort=True)[0], np.int64)
    bins = settings.bins or (len(emotions) if len(emotions) > 1 else 5)
    measures = {name: values[embedded] for name, values in measures.items()}
    offered, left_out = columns(table, groups, measures, bins, (settings.name, settings.embedding))
    compared = []
    for column in progress([emotion, *offered], "compare"):
        each = _compare(column, emotion.codes, clusters, groups, vectors, settings)
        if not math.isnan(each.averages["ami"].value):
            compared.append(each)
        elif column is not emotion:
            left_out[column.name] = "the same throughout what is clustered of each speaker"
    compared.sort(key=lambda each: (each.column is not emotion, -each.averages["ami"].value))
    labelled = bool(compared) and compared[0].column is emotion
    own = measure_separation(vectors, clusters, groups, settings.permutations, settings.seed)
    speakers = {
        "speaker": names,
        "utterances": np.bincount(groups),
        "clusters": table[settings.name].groupby(groups).nunique().to_numpy(),
        "silhouette": own.values["silhouette"],
    }
    return Analysis(
        settings=settings,
        corpora=[name for name in manifest.corpora if name],
        encoder=some(info["encoder"] for info in vector_info(manifest, settings.embedding)),
        speakers=pd.DataFrame(speakers),
        groups=groups,
        clusters=clusters,
        emotions=[str(name) for name in emotions],
        truth=emotion.codes,
        vectors=vectors,
        silhouette=_average(own, "silhouette", settings),
        compared=compared,
        partners=cluster_partners(clusters, emotion.codes, groups) if labelled else None,
        probe=_probe(vectors, groups, table.assign(speaker=names[groups]), settings),
        left_out=left_out,
        unreadable=unreadable,
        notes=notes,
    )


def _compare(
    column: Column,
    emotion: Codes,
    clusters: Codes,
    groups: Codes,
    vectors: NDArray[np.float32],
    settings: AnalyseSettings,
) -> Compared:
    chance = settings.permutations, settings.seed
    shown = np.where(clusters >= 0, column.codes, -1)
    parts = (
        measure_agreement(clusters, column.codes, groups, *chance),
        measure_separation(vectors, shown, groups, *chance),
    )
    agreement = Agreement(*map(or_, *parts))  # the measures of both
    averages = {measure: _average(agreement, measure, settings) for measure in agreement.values}
    if column.name == EMOTION or emotion.max() < 1:
        return Compared(column, agreement, averages, {})

    def ami(some_clusters: Codes, labels: Codes) -> NDArray[np.float64]:
        return measure_agreement(some_clusters, labels, groups, permutations=1).values["ami"]

    def beyond(labels: Codes, within: Codes) -> NDArray[np.float64]:
        found = measure_agreement(clusters, labels, groups, *chance, within)
        return found.values["ami"] - found.chance["ami"]

    both = np.where((column.codes >= 0) & (emotion >= 0), clusters, -1)
    figures = {
        "emotion_minus_this": ami(both, emotion) - ami(both, column.codes),
        "emotion_beyond_this": beyond(emotion, column.codes),
        "this_beyond_emotion": beyond(column.codes, emotion),
        "emotion_with_this": ami(np.where(clusters >= 0, emotion, -1), column.codes),
    }
    means = {name: speaker_mean(each, settings.draws, settings.seed) for name, each in figures.items()}
    return Compared(column, agreement, averages, means)


def _average(found: Agreement, measure: str, settings: AnalyseSettings) -> Average:
    mean = speaker_mean(found.values[measure], settings.draws, settings.seed)
    if math.isnan(mean.value):
        return Average(*mean, math.nan, math.nan)
    return Average(*mean, float(np.nanmean(found.chance[measure])), found.overall_p(measure))


def _probe(
    vectors: NDArray[np.float32], groups: Codes, table: pd.DataFrame, settings: AnalyseSettings
) -> Probed | None:
    truth, emotions = pd.factorize(table[EMOTION], sort=True)
    rows = table[["key", "speaker"]].assign(truth=table[EMOTION], part="test", seed=0)
    tables = []
    for values in (vectors, centred(vectors, groups)):
        predicted, fold = probe(values, truth, groups, folds=settings.folds, seed=settings.seed)
        known = predicted >= 0
        if not known.any():
            return None
        tables.append(rows[known].assign(label=emotions[predicted[known]], fold=fold[known]))
    how: dict[str, Any] = {"average": "pooled", "draws": settings.draws, "seed": settings.seed}
    how["labels"] = emotions.tolist()
    raw, moved = tables
    gain = paired_difference(moved, raw, **how)
    return Probed(speaker_bootstrap(raw, **how), speaker_bootstrap(moved, **how), gain)


def _measured(
    manifest: Manifest, settings: AnalyseSettings
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str], list[str]]:
    if not settings.measure:
        return {}, {}, ["Duration, loudness and pitch were not measured, as asked."]
    try:
        measures, unreadable = measured(manifest)
    except ManifestError as error:  # embeddings may travel without the recordings
        return {}, {}, [f"Duration, loudness and pitch were not measured: {error}."]
    notes = [f"Not measured, for they cannot be read: {some(unreadable)}."] if unreadable else []
    return measures, unreadable, notes
