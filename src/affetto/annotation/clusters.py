"""``annotate clusters``: utterances of each speaker, grouped by their embeddings, as a column."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from affetto.config import Settings
from affetto.corpora.arrays import SPEAKER_COLUMN, VectorRows, vector_places
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewColumn
from affetto.data import NONE
from affetto.errors import ManifestError
from affetto.models.encoder import chosen_device
from affetto.models.representation import JOIN
from affetto.runs import MANIFEST, RunFolder, write_json
from affetto.vectors.kmeans import Rows, spherical_kmeans
from affetto.vectors.spaces import BySpeaker, Codes, Contents, Vectors, centred, directions, members, without

CLUSTERS = "clusters.json"
_BLOCK = 1 << 15  # vectors that are read at once, where the order is that of the keys
CONTENT_COLUMN = "content"  # that is used by default, where there is one


class ClusterSettings(Settings):
    """How the utterances of each speaker are clustered."""

    method: Literal["k-means"] = "k-means"  # spherical: by the direction of vectors
    count: int = Field(6, ge=2)  # clusters of a speaker
    centre: bool = True  # subtract each speaker's mean first
    dims: int = Field(32, ge=1)  # principal directions of each column that are kept, where several are joined
    middle: float = Field(0.5, ge=0)  # weight of the distance from that mean: see spaces.BySpeaker
    together: bool = False  # whether a cluster's number means the same for each speaker
    fewest: int = Field(12, ge=2)  # a speaker with fewer utterances gets no cluster
    restarts: int = Field(10, ge=1)  # the tightest clusters of so many random starts are kept
    iterations: int = Field(300, ge=1)  # most steps of one start
    seed: int = Field(0, ge=0)


class Clusters(NamedTuple):
    """Cluster of each utterance, ``(N,)``, numbered within the speaker by first utterance; -1 for none.

    Confidence is the silhouette, scaled to 0 to 1: 0.5 at the edge between two clusters; 0 without one.
    """

    labels: Codes
    confidence: NDArray[np.float32]


def cluster(
    vectors: Rows | list[Rows],
    speakers: Codes,
    settings: ClusterSettings,
    contents: Codes | None = None,
    device: str = "cpu",
    finite: NDArray[np.bool_] | None = None,
) -> Clusters:
    """Clusters ``vectors (N, D)`` of each of the ``speakers (N,)``; one that is not finite gets no cluster.

    Of several arrays, the principal directions are joined, with the same spread for each array.
    ``contents (N,)`` are numbers of the words, -1 for unknown, whose effect across speakers is taken out.
    ``finite (N,)`` says which vectors are finite, where that is known.
    """
    parts: list[Rows] = [*vectors] if isinstance(vectors, list) else [vectors]
    groups = np.where(_finite(parts) if finite is None else finite, speakers, NONE)
    sizes = np.bincount(groups[groups >= 0], minlength=int(speakers.max(initial=0)) + 1)
    groups[sizes[speakers] < settings.fewest] = NONE
    known = groups >= 0
    kinds = None if contents is None else np.where(known, contents, NONE)
    space: Rows = parts[0]
    if settings.centre and len(parts) > 1:
        space = np.hstack([_even(centred(part[:], groups), groups, kinds, settings.dims) for part in parts])
    elif settings.centre and kinds is not None:
        space = without(centred(space[:], groups), groups, kinds)
    elif len(parts) > 1:
        space = np.hstack([part[:] for part in parts])
    if settings.centre:
        space = BySpeaker(space, groups, settings.middle)
    how = settings.model_dump(include={"restarts", "iterations", "seed"})
    places = np.where(known, 0, NONE) if settings.together else groups
    labels, silhouettes = spherical_kmeans(space, places, [settings.count], **how, device=device)
    confidence = np.where(labels >= 0, (1 + silhouettes) / 2, 0).astype(np.float32)
    for rows in members(np.where(labels >= 0, places, NONE)):
        labels[rows] = pd.factorize(labels[rows])[0]
    return Clusters(labels, confidence)


def _finite(parts: Sequence[Rows], digest: Any = None) -> NDArray[np.bool_]:
    """Returns whether the vectors of an utterance are finite in all arrays, ``(N,)``, and hashes them."""
    found = np.ones(len(parts[0]), np.bool_)
    for part in parts:
        for begin in range(0, len(part), _BLOCK):
            vectors = part[begin : begin + _BLOCK]
            found[begin : begin + _BLOCK] &= np.isfinite(vectors).all(1)
            if digest is not None:
                digest.update(vectors.data)
    return found


def _even(vectors: Vectors, groups: Codes, kinds: Codes | None, dims: int) -> Vectors:
    """Returns the principal directions of speaker-centred vectors, of a mean square length of 1."""
    known = groups >= 0
    values = directions(vectors[known], groups[known], None if kinds is None else kinds[known], dims)
    found = np.zeros((len(vectors), values.shape[1]), np.float32)
    found[known] = values / np.sqrt(np.square(values).sum(1).mean()).clip(1e-9)
    return found


class AnnotateClustersSettings(Settings):
    """How ``annotate clusters`` groups utterances."""

    clusters: ClusterSettings = ClusterSettings()
    embedding: str = SPEAKER_COLUMN  # column of the vectors that are clustered, or several: "voice + whisper"
    # Column of the words, whose effect is taken out: vectors of content, or values that repeat, such as text.
    content: str | None = None  # None for "content", where the manifest has such a column; "" for none
    encoder: str | None = None  # that made the vectors of each column; None for any
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
    device: str = "auto",
) -> RunFolder:
    """Clusters the utterances of every speaker, and writes a manifest with a column of clusters.

    Emotions are not looked at. Speakers of two corpora with the same name are two.

    Args:
        manifest: with a speaker and a vector an utterance, or the file that lists them.
        settings: how, on which column, and the name of the new one.
        out: the run folder: ``manifest.csv`` with ``NAME``, a number within the speaker, empty for none, and
            ``NAME_confidence``, 0 to 1; ``clusters.json`` with the settings and the speakers.
        device: where k-means runs.
    """
    manifest = Manifest.of(manifest)
    manifest.require("speaker")
    table = manifest.table
    named = settings.embedding.split(JOIN)
    embedded = np.all([vector_places(manifest, column)[1][:, 0] >= 0 for column in named], axis=0)
    if not embedded.any():
        raise ManifestError(f"no row has a vector in {settings.embedding}; run affetto annotate speakers")
    # In the order of the keys, so that the order of the table decides nothing.
    order = np.flatnonzero(embedded)[np.argsort(table["key"].to_numpy()[embedded])]
    rows = Manifest(table.iloc[order], manifest.roots)
    vectors = [VectorRows(rows, column, settings.encoder) for column in named]
    speakers, names = pd.factorize(np.array(rows.owners, object), sort=True)
    content = _contents(rows, settings, speakers)
    digest = hashlib.sha256()
    finite = _finite(vectors, digest)
    digest.update(b"" if content is None else content.tobytes())
    run = RunFolder(out, "annotate clusters")
    with run.locked():
        if not run.start(settings, manifest_sha256=manifest.sha256, vectors_sha256=digest.hexdigest()):
            return run
        where = str(chosen_device(device))
        found = cluster([*vectors], speakers, settings.clusters, content, where, finite)
        has = found.labels != NONE
        text, confidence = np.full(len(table), None, object), np.full(len(table), np.nan)
        text[order[has]] = found.labels[has].astype(str)
        confidence[order[has]] = found.confidence[has].astype(np.float64).round(4)
        made = {settings.name: text, f"{settings.name}_confidence": confidence}
        owned = dict(zip(names.tolist(), members(speakers), strict=True))
        info = [each for part in vectors for each in part.info]
        del rows, vectors
        manifest.with_columns(made).write(run / MANIFEST)
        write_json(run / CLUSTERS, _facts(info, settings, content, found.labels, owned))
        run.finish()
    return run


def _contents(manifest: Manifest, settings: AnnotateClustersSettings, speakers: Codes) -> Codes | None:
    """Returns a number for the words of each utterance; None where they are not to be taken out."""
    column = settings.content
    if column is None and CONTENT_COLUMN in manifest.table.columns:
        column = CONTENT_COLUMN
    if not column or not settings.clusters.centre:
        return None
    return Contents(manifest, column).numbers(speakers, seed=settings.clusters.seed)


def _facts(
    info: list[dict[str, Any]],
    settings: AnnotateClustersSettings,
    content: Codes | None,
    labels: Codes,
    speakers: dict[str, Codes],
) -> dict[str, Any]:
    """Returns ``clusters.json``, from the cluster of each utterance, and the utterances of each speaker."""
    by_speaker = {}
    for name, own in speakers.items():
        sizes = np.bincount(labels[own][labels[own] != NONE])
        sizes = sizes[sizes > 0]
        by_speaker[name] = {"utterances": len(own), "clusters": len(sizes), "sizes": sizes.tolist()}
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
