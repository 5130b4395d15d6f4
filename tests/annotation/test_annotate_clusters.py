"""The verb: columns, files, speakers of two corpora, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from affetto.annotation import clusters as annotate
from affetto.annotation.clusters import AnnotateClustersSettings, annotate_clusters
from affetto.cli import app
from affetto.config import build
from affetto.corpora.arrays import VectorRows, cell, write_vectors
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ManifestError, RunError

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
    return AnnotateClustersSettings.model_validate({"clusters": {"count": 3}, **given})


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


def test_the_order_of_the_table_decides_nothing(embedded: Manifest, tmp_path: Path) -> None:
    noisy = settings(clusters={"count": 5})
    turned = Manifest(embedded.table.iloc[::-1], embedded.roots)
    found = [
        Manifest.read(annotate_clusters(each, noisy, tmp_path / name) / "manifest.csv").table
        for each, name in ((embedded, "one"), (turned, "other"))
    ]
    assert found[0]["key"].tolist() == found[1]["key"].tolist()[::-1]
    pd.testing.assert_frame_equal(
        found[0].set_index("key")[["cluster", "cluster_confidence"]],
        found[1].set_index("key").loc[found[0]["key"], ["cluster", "cluster_confidence"]],
    )


def test_labels_cannot_be_taken_for_content(embedded: Manifest) -> None:
    for name in ("emotion", "intensity_level", "votes_anger"):
        with pytest.raises(ConfigError, match="without labels"):
            build(AnnotateClustersSettings, {"content": name})


def test_an_interrupted_run_is_made_again_and_other_vectors_are_another_run(
    embedded: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = annotate_clusters(embedded, settings(), tmp_path / "straight")
    with monkeypatch.context() as patched:
        patched.setattr(annotate, "cluster", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            annotate_clusters(embedded, settings(), tmp_path / "run")
    assert not (tmp_path / "run" / "DONE").exists()
    again = annotate_clusters(embedded, settings(), tmp_path / "run")
    for name in ("manifest.csv", "clusters.json"):
        assert (again / name).read_bytes() == (straight / name).read_bytes()
    with monkeypatch.context() as patched:  # finished: nothing is clustered
        patched.setattr(annotate, "cluster", lambda *_: pytest.fail("clustered again"))
        annotate_clusters(embedded, settings(), tmp_path / "run")
    array = np.load(tmp_path / "v.npy")
    array[0] *= 2
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(RunError, match="vectors_sha256"):
        annotate_clusters(embedded, settings(), tmp_path / "run")


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


def test_the_command_takes_vectors_as_they_are_when_asked(embedded: Manifest, tmp_path: Path) -> None:
    embedded.write(tmp_path / "m.csv")
    line = ["annotate", "clusters", str(tmp_path / "m.csv"), "--count", "3"]
    for number, more in enumerate(([], ["--plain"], ["clusters.restarts=4"])):
        said = RUN.invoke(app, [*line, "-o", str(tmp_path / str(number)), *more])
        assert said.exit_code == 0, said.output
    written = [(tmp_path / str(number) / "config.yaml").read_text() for number in range(3)]
    assert ["centre: true" in text for text in written] == [True, False, True]
    assert "restarts: 4" in written[2]
    again = RUN.invoke(app, [*line, "-o", str(tmp_path / "0")])
    assert "nothing to do" in again.output


def test_vectors_are_read_three_times(
    embedded: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, vectors = list[int](), VectorRows.__getitem__

    def counted(self: VectorRows, rows: Any) -> Any:
        read.append(len(vectors(self, rows)))
        return vectors(self, rows)

    monkeypatch.setattr(VectorRows, "__getitem__", counted)
    annotate_clusters(embedded, settings(), tmp_path / "run")
    assert sum(read) == 3 * 60, "to hash and check them, for their spread, and for k-means"
