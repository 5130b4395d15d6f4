"""``annotate clusters``: utterances of each speaker, grouped by their embeddings, as a column."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import field_validator

from affetto.annotation.clusters import NONE, ClusterSettings, cluster
from affetto.annotation.contents import contents
from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN, read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewColumn
from affetto.errors import ManifestError
from affetto.runs import MANIFEST, RunFolder, write_json

CLUSTERS = "clusters.json"
CONTENT_COLUMN = "content"
"""The column of content that ``annotate clusters`` looks for unless told otherwise."""


class AnnotateClustersSettings(Settings):
    """How ``annotate clusters`` groups utterances.

    Attributes:
        clusters: the clustering itself.
        embedding: column of the vectors that are clustered.
        content: column that tells what is said, whose recurring part is taken out of the vectors: vectors of
            content, or values that come again, such as ``text``. None for ``content``, where the manifest has
            such a column; "" to leave all in.
        encoder: that made the vectors; None for whichever did.
        name: of the new column; its confidence goes to ``NAME_confidence``.
    """

    clusters: ClusterSettings = ClusterSettings()
    embedding: str = SPEAKER_COLUMN
    content: str | None = None
    encoder: str | None = None
    name: NewColumn = "cluster"

    @field_validator("content")
    @classmethod
    def _tells_no_emotion(cls, content: str | None) -> str | None:
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
        ``NAME_confidence``, 0 to 1; ``clusters.json`` with what was done and who was heard.

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
    said = _said(rows, settings, speakers)
    digest = hashlib.sha256(np.ascontiguousarray(vectors).data)
    digest.update(b"" if said is None else said.tobytes())
    run = RunFolder(out, "annotate clusters")
    with run.locked():
        if not run.start(settings, manifest_sha256=manifest.sha256, vectors_sha256=digest.hexdigest()):
            return run
        found = cluster(vectors, speakers, settings.clusters, said, device)
        has = found.labels != NONE
        columns = pd.DataFrame({"label": found.labels, "confidence": found.confidence}, rows.table["key"])
        columns = columns[has].reindex(table["key"])
        text = [None if np.isnan(label) else str(int(label)) for label in columns["label"]]
        confidence = columns["confidence"].to_numpy(np.float64).round(4)
        made = {settings.name: pd.Series(text, table.index, dtype=object)}
        manifest.with_columns({**made, f"{settings.name}_confidence": confidence}).write(run / MANIFEST)
        write_json(run / CLUSTERS, _cluster_facts(rows, settings, names, speakers, said, found.labels))
        run.finish()
    return run


def _said(
    manifest: Manifest, settings: AnnotateClustersSettings, speakers: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Returns what is said in each utterance, as :func:`contents` does; None to leave it in."""
    column = settings.content
    if column is None and CONTENT_COLUMN in manifest.table.columns:
        column = CONTENT_COLUMN
    if not column or not settings.clusters.centre:
        return None
    return contents(manifest, column, speakers, settings.clusters.seed)


def _cluster_facts(
    manifest: Manifest,
    settings: AnnotateClustersSettings,
    names: NDArray[np.str_],
    speakers: NDArray[np.int64],
    said: NDArray[np.int64] | None,
    labels: NDArray[np.int64],
) -> dict[str, Any]:
    by_speaker = {}
    for number, name in enumerate(names.tolist()):
        own = labels[speakers == number]
        sizes = np.bincount(own[own != NONE])
        by_speaker[name] = {
            "utterances": len(own),
            "clusters": int((sizes > 0).sum()),
            "sizes": sizes[sizes > 0].tolist(),
        }
    info = vector_info(manifest, settings.embedding)
    return {
        "column": settings.name,
        "settings": settings.model_dump(mode="json"),
        "encoder": sorted({str(each["encoder"]) for each in info}),
        "weights_from_elsewhere": any(each.get("weights_from_elsewhere", True) for each in info),
        "contents": 0 if said is None else int(said.max()) + 1,
        "across_speakers": settings.clusters.together or said is not None,
        "labels_used": False,
        "speakers_seen": {"with_labels": [], "without_labels": names.tolist()},
        "speakers": by_speaker,
    }
