"""``annotate clusters``: utterances of each speaker, grouped by their embeddings, as a column."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import field_validator

from affetto.annotation.clusters import ClusterSettings, cluster
from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN, read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewColumn
from affetto.data import NONE
from affetto.errors import ManifestError
from affetto.runs import MANIFEST, RunFolder, write_json
from affetto.vectors.contents import Contents

CLUSTERS = "clusters.json"
CONTENT_COLUMN = "content"
"""The column of content that ``annotate clusters`` uses by default, where there is one."""


class AnnotateClustersSettings(Settings):
    """How ``annotate clusters`` groups utterances."""

    clusters: ClusterSettings = ClusterSettings()
    embedding: str = SPEAKER_COLUMN  # column of the vectors that are clustered
    # Column of the words, whose effect is taken out: vectors of content, or values that repeat, such as text.
    content: str | None = None  # None for "content", where the manifest has such a column; "" for none
    encoder: str | None = None  # that made the vectors; None for any
    name: NewColumn = "cluster"  # of the new column; its confidence goes to NAME_confidence

    @field_validator("content")
    @classmethod
    def _is_no_label(cls, content: str | None) -> str | None:
        if content in ("emotion", "intensity_level") or (content or "").startswith("votes_"):
            raise ValueError("clusters are made without labels; name what is said, e.g. text")
        return content


def annotate_clusters(
    manifest: str | Path | Manifest,
    settings: AnnotateClustersSettings,
    out: str | Path,
    *,
    device: str = "cpu",
) -> RunFolder:
    """Clusters the utterances of every speaker, and writes a manifest with a column of clusters.

    Emotions are not looked at. Speakers of two corpora with the same name are two.

    Args:
        manifest: with a speaker and a vector an utterance, or the file that lists them.
        settings: how, on which column, and the name of the new one.
        out: the run folder.
        device: where k-means runs.

    Returns:
        The run folder: ``manifest.csv`` with ``NAME``, a number within the speaker, empty for none, and
        ``NAME_confidence``, 0 to 1; ``clusters.json`` with the settings and the speakers.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
        RunError: when the folder is in use or holds other settings.
    """
    manifest = Manifest.of(manifest)
    manifest.require("speaker")
    table = manifest.table
    embedded = np.array([place is not None for place in vector_places(manifest, settings.embedding)])
    if not embedded.any():
        raise ManifestError(f"no row has a vector in {settings.embedding}; run affetto annotate speakers")
    # In the order of the keys, so that the order of the table decides nothing.
    rows = manifest.where(embedded)
    rows = Manifest(rows.table.sort_values("key"), rows.roots)
    vectors = read_vectors(rows, settings.embedding, settings.encoder)
    names, speakers = np.unique(np.array(rows.owners), return_inverse=True)
    content = _contents(rows, settings, speakers)
    digest = hashlib.sha256(np.ascontiguousarray(vectors).data)
    digest.update(b"" if content is None else content.tobytes())
    run = RunFolder(out, "annotate clusters")
    with run.locked():
        if not run.start(settings, manifest_sha256=manifest.sha256, vectors_sha256=digest.hexdigest()):
            return run
        found = cluster(vectors, speakers, settings.clusters, content, device)
        has = found.labels != NONE
        columns = pd.DataFrame({"label": found.labels, "confidence": found.confidence}, rows.table["key"])
        columns = columns[has].reindex(table["key"])
        text = [None if np.isnan(label) else str(int(label)) for label in columns["label"]]
        confidence = columns["confidence"].to_numpy(np.float64).round(4)
        made = {settings.name: pd.Series(text, table.index, dtype=object)}
        manifest.with_columns({**made, f"{settings.name}_confidence": confidence}).write(run / MANIFEST)
        owned = pd.Series(found.labels, names[speakers])
        write_json(run / CLUSTERS, _facts(rows, settings, content, owned))
        run.finish()
    return run


def _contents(
    manifest: Manifest, settings: AnnotateClustersSettings, speakers: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Returns a number for the words of each utterance; None where they are not to be taken out."""
    column = settings.content
    if column is None and CONTENT_COLUMN in manifest.table.columns:
        column = CONTENT_COLUMN
    if not column or not settings.clusters.centre:
        return None
    return Contents(manifest, column).numbers(speakers, seed=settings.clusters.seed)


def _facts(
    manifest: Manifest,
    settings: AnnotateClustersSettings,
    content: NDArray[np.int64] | None,
    labels: pd.Series,
) -> dict[str, Any]:
    """Returns ``clusters.json``; ``labels`` has the speaker of each utterance as its index."""
    by_speaker = {}
    for name, own in labels.groupby(level=0):
        sizes = own[own != NONE].value_counts(sort=False).sort_index().tolist()
        by_speaker[str(name)] = {"utterances": len(own), "clusters": len(sizes), "sizes": sizes}
    info = vector_info(manifest, settings.embedding)
    return {
        "column": settings.name,
        "settings": settings.model_dump(mode="json"),
        "encoder": sorted({str(each["encoder"]) for each in info}),
        "weights_from_elsewhere": any(each.get("weights_from_elsewhere", True) for each in info),
        "contents": 0 if content is None else int(content.max()) + 1,
        "across_speakers": content is not None,
        "labels_used": False,
        "speakers_seen": {"with_labels": [], "without_labels": list(by_speaker)},
        "speakers": by_speaker,
    }
