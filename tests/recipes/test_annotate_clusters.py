"""The verb: columns, files, speakers of two corpora, bad input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.corpora.vectors import cell, write_vectors
from affetto.errors import ManifestError, RunError
from affetto.recipes.annotate import AnnotateClustersSettings, annotate_clusters

RUN = CliRunner()


@pytest.fixture
def embedded(tmp_path: Path) -> Manifest:
    """Two corpora that both have a speaker 1, who sound different; no recordings are needed."""
    generator = np.random.default_rng(0)
    rows, vectors = [], []
    for corpus, base in (("a", 0.0), ("b", 40.0)):
        for number in range(30):
            rows.append(
                {"key": f"{corpus}{number:02d}", "file": f"{number}.wav", "corpus": corpus, "speaker": "1"}
            )
            vectors.append(base + 3 * np.eye(8)[number % 3] + 0.1 * generator.normal(size=8))
    table = pd.DataFrame(rows)
    info = {"encoder": "made-up", "encoder_sha256": "0"}
    write_vectors(tmp_path / "v.npy", np.array(vectors, np.float32), table["key"].tolist(), info)
    table["speaker_embedding"] = [cell(tmp_path / "v.npy", row) for row in range(60)]
    return Manifest(table, {"a": tmp_path, "b": tmp_path})


def settings(**given: object) -> AnnotateClustersSettings:
    return AnnotateClustersSettings.model_validate({"clusters": {"counts": [3]}, **given})


def test_columns_and_facts(embedded: Manifest, tmp_path: Path) -> None:
    run = annotate_clusters(embedded, settings(), tmp_path / "run")
    table = Manifest.read(run / "manifest.csv").table
    assert set(table["cluster"].astype(str)) == {"0", "1", "2"}
    assert table["cluster"].astype(int).tolist() == [row % 3 for row in range(30)] * 2
    assert table["cluster_confidence"].between(0.9, 1).all()
    facts = json.loads((run / "clusters.json").read_text(encoding="utf-8"))
    assert facts["speakers_seen"] == {"with_labels": [], "without_labels": ["a/1", "b/1"]}
    assert facts["speakers"]["a/1"] == {"utterances": 30, "clusters": 3, "sizes": [10, 10, 10]}
    assert facts["encoder"] == ["made-up"]
    assert facts["labels_used"] is False


def test_several_clusterings_stand_side_by_side(embedded: Manifest, tmp_path: Path) -> None:
    first = annotate_clusters(embedded, settings(), tmp_path / "one")
    second = annotate_clusters(first / "manifest.csv", settings(name="other"), tmp_path / "two")
    table = Manifest.read(second / "manifest.csv").table
    assert {"cluster", "cluster_confidence", "other", "other_confidence"} <= set(table)
    assert annotate_clusters(embedded, settings(), tmp_path / "one").done  # finished before


def test_an_utterance_without_a_vector_has_no_cluster(embedded: Manifest, tmp_path: Path) -> None:
    table = embedded.table.copy()
    table.loc[4, "speaker_embedding"] = None
    run = annotate_clusters(Manifest(table, embedded.roots), settings(), tmp_path / "run")
    found = Manifest.read(run / "manifest.csv").table
    assert found["cluster"].isna().tolist() == [row == 4 for row in range(60)]
    assert np.isnan(found.loc[4, "cluster_confidence"])


def test_bad_input_is_named(embedded: Manifest, tmp_path: Path) -> None:
    nameless = Manifest(embedded.table.assign(speaker=None), embedded.roots)
    with pytest.raises(ManifestError, match="'speaker' is empty in 60 rows"):
        annotate_clusters(nameless, settings(), tmp_path / "run")
    bare = Manifest(embedded.table.drop(columns="speaker_embedding"), embedded.roots)
    with pytest.raises(ManifestError, match="annotate speakers"):
        annotate_clusters(bare, settings(), tmp_path / "run")
    with pytest.raises(ManifestError, match="made-up"):
        annotate_clusters(embedded, settings(encoder="ge2e"), tmp_path / "run")
    annotate_clusters(embedded, settings(), tmp_path / "run")
    with pytest.raises(RunError, match="other settings"):
        annotate_clusters(embedded, settings(name="other"), tmp_path / "run")


def test_the_command_says_who_has_no_clusters(embedded: Manifest, tmp_path: Path) -> None:
    table = embedded.table.copy()
    table.loc[30:, "speaker"] = [str(row) for row in range(30)]
    Manifest(table, embedded.roots).write(tmp_path / "m.csv")
    line = ["annotate", "clusters", str(tmp_path / "m.csv"), "-o", str(tmp_path / "out"), "--count", "3"]
    said = RUN.invoke(app, line)
    assert said.exit_code == 0, said.output
    assert "1 speakers clustered, 30 without clusters" in said.output
