"""Cells that name rows of an array: they travel with the manifest, and say which encoder they come from."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affetto.corpora.arrays import (
    cell,
    content_hash,
    read_vectors,
    vector_info,
    vector_places,
    write_vectors,
)
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def annotated(folder: Path, corpus: str = "c", rows: np.ndarray = ROWS, encoder: str = "ge2e") -> Manifest:
    """A manifest of four utterances whose vectors lie in reverse order, and its file ``manifest.csv``."""
    folder.mkdir(parents=True)
    array = folder / "speaker_embedding.npy"
    info = {"encoder": encoder, "encoder_sha256": f"sha of {encoder}", "weights_from_elsewhere": True}
    write_vectors(array, rows, [f"{corpus}{row}" for row in range(len(rows))], info)
    table = pd.DataFrame(
        {
            "key": [f"{corpus}-{row}" for row in range(4)],
            "file": [f"{row}.wav" for row in range(4)],
            "corpus": corpus,
            "text": ["said notes.npy#3", None, None, None],
            "take": ["a", "b", None, "c"],
            "speaker_embedding": [cell(array, 3 - row) for row in range(4)],
        }
    )
    manifest = Manifest(table, {corpus: folder / "audio"})
    manifest.write(folder / "manifest.csv")
    return manifest


def test_vectors_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "run")
    np.testing.assert_array_equal(read_vectors(manifest), ROWS[::-1])
    np.testing.assert_array_equal(read_vectors(manifest.where(["c-2", "c-0"])), ROWS[[3, 1]])
    assert read_vectors(manifest).dtype == np.float32
    assert read_vectors(manifest.where([])).shape == (0, 0)
    (info,) = vector_info(manifest)
    assert (info["encoder"], info["dim"], info["hashes"]) == ("ge2e", 3, ["c0", "c1", "c2", "c3"])
    assert info["weights_from_elsewhere"] is True


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_manifest_and_its_array_move_together(tmp_path: Path, suffix: str) -> None:
    annotated(tmp_path / "run").write(tmp_path / "run" / f"m{suffix}")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "deep" / "run")
    moved = Manifest.read(tmp_path / "elsewhere" / "deep" / "run" / f"m{suffix}")
    array = tmp_path / "elsewhere" / "deep" / "run" / "speaker_embedding.npy"
    files, places = vector_places(moved)
    assert (files, places.tolist()) == ([array], [[0, row] for row in (3, 2, 1, 0)])
    np.testing.assert_array_equal(read_vectors(moved), ROWS[::-1])


def test_cells_are_relative_on_disk_when_near_and_absolute_in_memory(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "a" / "run")
    written = (tmp_path / "a" / "run" / "manifest.csv").read_text()
    assert ",speaker_embedding.npy#3" in written
    assert "said notes.npy#3" in written
    again = Manifest.read(tmp_path / "a" / "run" / "manifest.csv")
    pd.testing.assert_frame_equal(again.table, manifest.table)
    again.write(tmp_path / "a" / "next" / "m.csv")
    assert ",../run/speaker_embedding.npy#3" in (tmp_path / "a" / "next" / "m.csv").read_text()
    again.write(tmp_path / "b" / "c" / "d" / "m.csv")
    assert f",{tmp_path}/a/run/speaker_embedding.npy#3" in (tmp_path / "b/c/d/m.csv").read_text()
    for name in ("a/next/m.csv", "b/c/d/m.csv"):
        np.testing.assert_array_equal(read_vectors(Manifest.read(tmp_path / name)), ROWS[::-1])


def test_a_relative_manifest_path_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotated(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    manifest = Manifest.read("manifest.csv")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(read_vectors(manifest), ROWS[::-1])


def test_joined_manifests_keep_the_arrays_of_each(tmp_path: Path) -> None:
    both = [annotated(tmp_path / "c"), annotated(tmp_path / "d", "d", ROWS + 100)]
    joined = Manifest.join(both)
    joined.write(tmp_path / "joined" / "m.csv")
    again = Manifest.read(tmp_path / "joined" / "m.csv")
    np.testing.assert_array_equal(read_vectors(again), np.concatenate([ROWS[::-1], ROWS[::-1] + 100]))
    assert len(vector_info(again)) == 2
    plain = Manifest(both[1].table.drop(columns="speaker_embedding"), both[1].roots)
    half = Manifest.join([both[0], plain])
    assert (vector_places(half)[1][4:] == -1).all()
    with pytest.raises(ManifestError, match=r"empty in 4 rows: d-0, d-1, d-2, d-3; run affetto annotate"):
        read_vectors(half)


def test_embeddings_of_another_encoder_are_refused(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "c")
    for name in ("ge2e", "sha of ge2e", None):
        np.testing.assert_array_equal(read_vectors(manifest, encoder=name), ROWS[::-1])
    with pytest.raises(
        ManifestError, match="made by another encoder than the config says: 'ge2e', not 'wavlm'"
    ):
        read_vectors(manifest, encoder="wavlm")
    mixed = Manifest.join([manifest, annotated(tmp_path / "d", "d", encoder="wavlm")])
    with pytest.raises(ManifestError, match=r"several encoders \(ge2e, wavlm\)"):
        read_vectors(mixed)


def test_a_folder_with_a_model_goes_by_its_name(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "c", encoder="voices")
    np.testing.assert_array_equal(read_vectors(manifest, encoder="/models/voices"), ROWS[::-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "speaker_embedding.npy").unlink(), "move a manifest together"),
        (lambda folder: (folder / "speaker_embedding.npy").write_bytes(b"no array"), "cannot be read"),
        (lambda folder: np.save(folder / "speaker_embedding.npy", ROWS[0]), r"shape \(3,\)"),
        (lambda folder: np.save(folder / "speaker_embedding.npy", ROWS[:2]), "has 2 rows; .* asks for 3"),
        (lambda folder: (folder / "speaker_embedding.json").unlink(), "does not say which encoder"),
        (lambda folder: (folder / "speaker_embedding.json").write_text("[]"), "does not say which encoder"),
    ],
)
def test_a_damaged_array_says_what_to_do(tmp_path: Path, damage: Any, message: str) -> None:
    manifest = annotated(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(ManifestError, match=message):
        read_vectors(manifest)


def test_a_column_that_is_missing_or_of_something_else_is_named(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "run")
    with pytest.raises(ManifestError, match=r"lacks the column 'xvector'.*affetto annotate speakers"):
        read_vectors(manifest, "xvector")
    with pytest.raises(ManifestError, match=r"c-0: the column 'take' holds 'a'; FILE\.npy#ROW is needed"):
        read_vectors(manifest, "take")


def test_arrays_of_different_width_do_not_mix(tmp_path: Path) -> None:
    wide = annotated(tmp_path / "d", "d", np.ones((4, 5), np.float32))
    with pytest.raises(ManifestError, match=r"arrays of \[3, 5\] columns"):
        read_vectors(Manifest.join([annotated(tmp_path / "c"), wide]))


def test_equal_sound_has_an_equal_hash() -> None:
    samples = np.array([1, -2, 3], np.int16)
    assert content_hash(samples) == content_hash(np.array([1, 9, -2, 9, 3, 9], np.int16)[::2])
    assert content_hash(samples) != content_hash(samples[:2])


def test_what_lies_beside_an_array_is_json(tmp_path: Path) -> None:
    annotated(tmp_path / "run")
    info = json.loads((tmp_path / "run" / "speaker_embedding.json").read_text())
    assert sorted(info) == ["dim", "encoder", "encoder_sha256", "hashes", "weights_from_elsewhere"]
