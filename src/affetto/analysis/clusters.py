"""``analyse clusters``: how far clusters follow emotion, and how far they follow anything else."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.analysis.agreement import MEASURES, Codes, Followed, follow, mates, separate
from affetto.analysis.clusters_page import blocks, title
from affetto.analysis.clusters_words import said
from affetto.analysis.comparison import EMOTION, AnalyseSettings, Analysis, Average, Compared, Probe, summary
from affetto.analysis.confounds import Column, columns, measured
from affetto.analysis.probe import centred, probe
from affetto.corpora.arrays import read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest, some
from affetto.corpora.tabular import lacks
from affetto.errors import ManifestError
from affetto.evaluation.bootstrap import Interval, paired_difference, speaker_bootstrap, speaker_mean
from affetto.material.recordings import speaker_names
from affetto.pages import Page
from affetto.progress import progress
from affetto.runs import RunFolder, write_json

RESULT = "analysis.json"

__all__ = ["AnalyseSettings", "analyse", "analyse_clusters"]


def analyse_clusters(
    manifest: Manifest | str | Path, settings: AnalyseSettings, out: str | Path
) -> RunFolder:
    """Says how far clusters follow emotion, and how far they follow anything else.

    Args:
        manifest: utterances with a column of clusters and one of embeddings, or the file that lists them.
        settings: what to look at, and how.
        out: the run folder.

    Returns:
        The run folder: ``report.html`` with everything inside, ``report.md`` with its figures beside it, and
        ``analysis.json`` with every figure.

    Raises:
        ManifestError: without clusters, embeddings or speakers, or with embeddings of another encoder.
        RunError: when the folder is in use or holds another analysis.
    """
    manifest = Manifest.of(manifest)
    run = RunFolder(out, "analyse clusters")
    with run.locked():
        facts = {"manifest_sha256": manifest.sha256, "clusters_sha256": _clusters_sha256(manifest, settings)}
        if run.done and not run.start(settings, **facts):
            return run
        embedded, vectors = _read(manifest, settings)  # what cannot be read leaves no folder behind
        run.start(settings, **facts)
        found = _analysed(manifest, settings, embedded, vectors)
        Page(title(found), blocks(found)).write(run.path)
        words = [block.text for block in said(found)]
        write_json(run / RESULT, {"words": words, **summary(found)})
        run.finish()
    return run


def analyse(manifest: Manifest, settings: AnalyseSettings) -> Analysis:
    """Measures what :func:`analyse_clusters` writes; raises as it does."""
    return _analysed(manifest, settings, *_read(manifest, settings))


def _read(manifest: Manifest, settings: AnalyseSettings) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Says which utterances have an embedding, ``(N,)``, and reads these."""
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


def _analysed(
    manifest: Manifest,
    settings: AnalyseSettings,
    embedded: NDArray[np.bool_],
    vectors: NDArray[np.float32],
) -> Analysis:
    measures, unreadable, notes = _measured(manifest, settings)
    if not embedded.all():
        notes += (f"{int((~embedded).sum()):,} utterances have no embedding and are left out.",)
    manifest = manifest.where(embedded)
    table = manifest.table
    names, groups = np.unique(speaker_names(manifest), return_inverse=True)
    truth, emotions = pd.factorize(table[EMOTION], sort=True)
    given = _Given(
        settings,
        groups,
        np.asarray(pd.factorize(table[settings.name], sort=True)[0], np.int64),
        vectors,
        Column(EMOTION, np.asarray(truth, np.int64)),
    )
    bins = settings.bins or (len(emotions) if len(emotions) > 1 else 5)
    measures = {name: values[embedded] for name, values in measures.items()}
    offered, left_out = columns(table, groups, measures, bins, (settings.name, settings.embedding))
    compared = []
    for column in progress([given.emotion, *offered], "compare"):
        each = given.compare(column)
        if not math.isnan(each.averages["ami"].value):
            compared.append(each)
        elif column is not given.emotion:
            left_out[column.name] = "the same throughout what is clustered of each speaker"
    compared.sort(key=lambda each: (each.column is not given.emotion, -each.averages["ami"].value))
    labelled = bool(compared) and compared[0].column is given.emotion
    own = separate(given.vectors, given.clusters, groups, **given.deals)
    return Analysis(
        settings=settings,
        corpora=[name for name in manifest.corpora if name],
        encoder=some(info["encoder"] for info in vector_info(manifest, settings.embedding)),
        speakers=names.tolist(),
        groups=groups,
        clusters=given.clusters,
        emotions=[str(name) for name in emotions],
        truth=given.emotion.codes,
        vectors=given.vectors,
        own=own,
        apart=given.average(own, "silhouette"),
        compared=compared,
        mates=mates(given.clusters, given.emotion.codes, groups) if labelled else None,
        probe=given.probe(table["key"].to_numpy(), names, emotions.to_numpy()),
        bins=bins,
        left_out=left_out,
        unreadable=unreadable,
        notes=notes,
    )


@dataclass(frozen=True)
class _Given:
    """What the measures are taken of."""

    settings: AnalyseSettings
    groups: Codes
    clusters: Codes
    vectors: NDArray[np.float32]
    emotion: Column

    @property
    def deals(self) -> "_Deals":
        return {"permutations": self.settings.permutations, "seed": self.settings.seed}

    def compare(self, column: Column) -> Compared:
        """Measures how far the clusters follow a column, for itself and beside emotion."""
        clusters, groups, emotion = self.clusters, self.groups, self.emotion
        found = follow(clusters, column.codes, groups, **self.deals)
        apart = separate(self.vectors, np.where(clusters >= 0, column.codes, -1), groups, **self.deals)
        averages = {measure: self.average(found, measure) for measure in MEASURES}
        averages["silhouette"] = self.average(apart, "silhouette")
        if column is emotion or emotion.codes.max() < 1:
            return Compared(column, found, apart, averages)
        both = np.where((column.codes >= 0) & (emotion.codes >= 0), clusters, -1)
        paired = [follow(both, each.codes, groups, permutations=1) for each in (emotion, column)]
        left = [
            follow(clusters, each.codes, groups, within=held.codes, **self.deals)
            for each, held in ((emotion, column), (column, emotion))
        ]
        mine, other = (each.values["ami"] for each in paired)
        excess = [each.values["ami"] - each.chance["ami"] for each in left]
        shared = follow(np.where(clusters >= 0, emotion.codes, -1), column.codes, groups, permutations=1)
        figures = (mine - other, mine, *excess, shared.values["ami"])
        return Compared(column, found, apart, averages, *map(self._mean, figures))

    def average(self, found: Followed, measure: str) -> Average:
        """Averages a figure over speakers."""
        mean = self._mean(found.values[measure])
        if math.isnan(mean.value):
            return Average(*mean, math.nan, math.nan)
        return Average(*mean, float(np.nanmean(found.chance[measure])), found.overall_p(measure))

    def _mean(self, values: NDArray[np.float64]) -> Interval:
        return speaker_mean(values, self.settings.draws, self.settings.seed)

    def probe(
        self, keys: NDArray[np.object_], names: NDArray[np.str_], emotions: NDArray[np.object_]
    ) -> Probe | None:
        """Scores the linear probe on the embeddings as they are, and with each speaker's mean taken away."""
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
        return Probe(speaker_bootstrap(raw, **how), speaker_bootstrap(moved, **how), gain)


class _Deals(TypedDict):
    permutations: int
    seed: int


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


def _clusters_sha256(manifest: Manifest, settings: AnalyseSettings) -> str:
    """Hash over what is analysed, which a manifest's own hash leaves out."""
    names = [name for name in ("key", settings.name, settings.embedding) if name in manifest.table.columns]
    cells = manifest.table[names].astype(str).replace(r"^.*[/\\]", "", regex=True)
    return hashlib.sha256(json.dumps(cells.to_numpy().tolist()).encode()).hexdigest()
