"""Agreement of clusters with emotion, and with each confound."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from affetto.analysis.agreement import (
    MEASURES,
    Agreement,
    Codes,
    Partners,
    cluster_partners,
    measure_agreement,
    measure_separation,
)
from affetto.analysis.confounds import Column, columns, measured
from affetto.analysis.probe import probe
from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN, read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import lacks, some
from affetto.errors import ManifestError
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

    Attributes:
        name: column of the clusters, numbered within each speaker.
        embedding: column of the embeddings, for silhouettes, the probe and the maps.
        encoder: encoder that must have made them; None for any.
        map: projection of a speaker's embeddings to two dimensions; ``none`` draws no maps.
        most_maps: largest number of maps.
        bins: quantile bins for a speaker's durations and other numbers; None for as many as there are
            emotions, or 5 without.
        measure: whether to measure duration, loudness and pitch of the recordings.
        folds: of the probe.
        permutations: of the labels, for chance.
        draws: of speakers, for the intervals.
        seed: of permutations, draws, folds and maps.
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


@dataclass(frozen=True)
class Compared:
    """Agreement of the clusters with a column.

    Attributes:
        column: the column.
        agreement: with the clusters, by speaker.
        separated: silhouette of the column in the embeddings, by speaker.
        averages: both over speakers, by measure.
        with_emotion: four means of AMI, empty for emotion itself: with emotion minus with this
            (``emotion_minus_this``); above permutations within this (``emotion_beyond_this``); of this, above
            permutations within emotion (``this_beyond_emotion``); of emotion with this
            (``emotion_with_this``).
    """

    column: Column
    agreement: Agreement
    separated: Agreement
    averages: dict[str, Average]
    with_emotion: dict[str, Interval] = field(default_factory=dict)


class Probed(NamedTuple):
    """UAR of a linear probe on the embeddings, on these minus the speaker's mean, and the difference."""

    raw: Interval
    centred: Interval
    gain: Difference


@dataclass(frozen=True)
class Analysis:
    """Result for ``N`` utterances that have an embedding, of ``G`` speakers and ``K`` emotions.

    ``groups``, ``clusters`` and ``truth`` are codes ``(N,)``; ``own`` and ``apart`` are the silhouette of the
    clusters by speaker and over speakers; ``compared`` has emotion first, then the others by AMI;
    ``partners`` and ``probe`` are None without emotions; ``left_out`` and ``unreadable`` give reasons.
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
    own: Agreement
    apart: Average
    compared: list[Compared]
    partners: Partners | None
    probe: Probed | None
    bins: int
    left_out: dict[str, str]
    unreadable: dict[str, str]
    notes: tuple[str, ...]

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
    """Returns which utterances have an embedding, ``(N,)``, and the embeddings of these.

    Raises:
        ManifestError: without speakers, clusters or embeddings, or with embeddings of another encoder.
    """
    manifest.require("speaker")
    for name, verb in ((settings.name, "clusters"), (settings.embedding, "speakers")):
        if name not in manifest.table.columns:
            raise ManifestError(f"{lacks(name, manifest.table.columns)}; affetto annotate {verb} makes it")
        if manifest.table[name].isna().all():
            raise ManifestError(f"the column {name!r} is empty in every row; run affetto annotate {verb}")
    embedded = np.array([place is not None for place in vector_places(manifest, settings.embedding)])
    if manifest.table.loc[embedded, settings.name].isna().all():
        raise ManifestError(
            f"no utterance with an embedding has a {settings.name}; run affetto annotate clusters"
        )
    return embedded, read_vectors(manifest.where(embedded), settings.embedding, settings.encoder)


def compare_clusters(
    manifest: Manifest,
    settings: AnalyseSettings,
    embedded: NDArray[np.bool_],
    vectors: NDArray[np.float32],
) -> Analysis:
    """Measures agreement with emotion, with measures of the recordings and with columns of the manifest.

    ``embedded`` and ``vectors`` are from :func:`read_clusters`.
    """
    measures, unreadable, notes = _measured(manifest, settings)
    if not embedded.all():
        notes += (f"{int((~embedded).sum()):,} utterances have no embedding and are left out.",)
    manifest = manifest.where(embedded)
    table = manifest.table
    names, groups = np.unique(speaker_names(manifest), return_inverse=True)
    truth, emotions = pd.factorize(table[EMOTION], sort=True)
    emotion = Column(EMOTION, np.asarray(truth, np.int64))
    clusters = np.asarray(pd.factorize(table[settings.name], sort=True)[0], np.int64)
    found = _Comparison(settings, groups, clusters, vectors, emotion)
    bins = settings.bins or (len(emotions) if len(emotions) > 1 else 5)
    measures = {name: values[embedded] for name, values in measures.items()}
    offered, left_out = columns(table, groups, measures, bins, (settings.name, settings.embedding))
    compared = []
    for column in progress([emotion, *offered], "compare"):
        each = found.compare(column)
        if not math.isnan(each.averages["ami"].value):
            compared.append(each)
        elif column is not emotion:
            left_out[column.name] = "the same throughout what is clustered of each speaker"
    compared.sort(key=lambda each: (each.column is not emotion, -each.averages["ami"].value))
    labelled = bool(compared) and compared[0].column is emotion
    own = measure_separation(vectors, clusters, groups, **found.chance)
    return Analysis(
        settings=settings,
        corpora=[name for name in manifest.corpora if name],
        encoder=some(info["encoder"] for info in vector_info(manifest, settings.embedding)),
        speakers=names.tolist(),
        groups=groups,
        clusters=clusters,
        emotions=[str(name) for name in emotions],
        truth=emotion.codes,
        vectors=vectors,
        own=own,
        apart=found.average(own, "silhouette"),
        compared=compared,
        partners=cluster_partners(clusters, emotion.codes, groups) if labelled else None,
        probe=found.probe(table["key"].to_numpy(), names, emotions.to_numpy()),
        bins=bins,
        left_out=left_out,
        unreadable=unreadable,
        notes=notes,
    )


class _Chance(TypedDict):
    permutations: int
    seed: int


@dataclass(frozen=True)
class _Comparison:
    settings: AnalyseSettings
    groups: Codes
    clusters: Codes
    vectors: NDArray[np.float32]
    emotion: Column

    @property
    def chance(self) -> _Chance:
        return {"permutations": self.settings.permutations, "seed": self.settings.seed}

    def compare(self, column: Column) -> Compared:
        clusters, groups, emotion = self.clusters, self.groups, self.emotion
        agreement = measure_agreement(clusters, column.codes, groups, **self.chance)
        shown = np.where(clusters >= 0, column.codes, -1)
        separated = measure_separation(self.vectors, shown, groups, **self.chance)
        averages = {measure: self.average(agreement, measure) for measure in MEASURES}
        averages["silhouette"] = self.average(separated, "silhouette")
        if column is emotion or emotion.codes.max() < 1:
            return Compared(column, agreement, separated, averages)

        def ami(some_clusters: Codes, labels: Codes, within: Codes | None = None) -> NDArray[np.float64]:
            """Returns AMI by speaker, above that of permutations within a column where there is one."""
            count, seed = (1, 0) if within is None else (self.settings.permutations, self.settings.seed)
            measured = measure_agreement(
                some_clusters, labels, groups, within=within, permutations=count, seed=seed
            )
            values = measured.values["ami"]
            return values if within is None else values - measured.chance["ami"]

        both = np.where((column.codes >= 0) & (emotion.codes >= 0), clusters, -1)
        figures = {
            "emotion_minus_this": ami(both, emotion.codes) - ami(both, column.codes),
            "emotion_beyond_this": ami(clusters, emotion.codes, column.codes),
            "this_beyond_emotion": ami(clusters, column.codes, emotion.codes),
            "emotion_with_this": ami(np.where(clusters >= 0, emotion.codes, -1), column.codes),
        }
        means = {name: self._mean(values) for name, values in figures.items()}
        return Compared(column, agreement, separated, averages, means)

    def average(self, found: Agreement, measure: str) -> Average:
        mean = self._mean(found.values[measure])
        if math.isnan(mean.value):
            return Average(*mean, math.nan, math.nan)
        return Average(*mean, float(np.nanmean(found.chance[measure])), found.overall_p(measure))

    def _mean(self, values: NDArray[np.float64]) -> Interval:
        return speaker_mean(values, self.settings.draws, self.settings.seed)

    def probe(
        self, keys: NDArray[np.object_], names: NDArray[np.str_], emotions: NDArray[np.object_]
    ) -> Probed | None:
        truth, seed = self.emotion.codes, self.settings.seed
        tables = []
        for values in (self.vectors, centred(self.vectors, self.groups)):
            predicted, fold = probe(values, truth, self.groups, folds=self.settings.folds, seed=seed)
            rows = predicted >= 0
            if not rows.any():
                return None
            who = {"key": keys[rows], "speaker": names[self.groups[rows]]}
            labels = {"truth": emotions[truth[rows]], "label": emotions[predicted[rows]]}
            tables.append(pd.DataFrame({**who, **labels, "part": "test", "fold": fold[rows], "seed": 0}))
        how: dict[str, Any] = {"average": "pooled", "draws": self.settings.draws, "seed": seed}
        how["labels"] = emotions.tolist()
        raw, moved = tables
        gain = paired_difference(moved, raw, **how)
        return Probed(speaker_bootstrap(raw, **how), speaker_bootstrap(moved, **how), gain)


def _measured(
    manifest: Manifest, settings: AnalyseSettings
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str], tuple[str, ...]]:
    if not settings.measure:
        return {}, {}, ("Duration, loudness and pitch were not measured, as asked.",)
    try:
        measures, unreadable = measured(manifest)
    except ManifestError as error:  # embeddings may travel without the recordings
        return {}, {}, (f"Duration, loudness and pitch were not measured: {error}.",)
    notes = (f"Not measured, for they cannot be read: {some(unreadable)}.",) if unreadable else ()
    return measures, unreadable, notes
