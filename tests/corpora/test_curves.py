"""Curves of any length travel with the manifest, and say what they are and whose labels they rest on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affetto.corpora.arrays import cell
from affetto.corpora.curves import aligned, read_curves, write_curves
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError

LENGTHS = [3, 5, 1, 4]
VALUES = np.arange(13, dtype=np.float32)[:, None] / 13
OWN = np.split(VALUES[:, 0], np.cumsum(LENGTHS)[:-1])


def described(**changed: Any) -> dict[str, Any]:
    return {
        "source": "ranker",
        "source_sha256": "one",
        "hop_seconds": 0.04,
        "protocol": "p",
        "folds": None,
        "speakers_seen": {"with_labels": {"": ["c/1"]}, "without_labels": ["c/1", "c/2"]},
        **changed,
    }


def annotated(folder: Path, corpus: str = "c", values: np.ndarray = VALUES, **changed: Any) -> Manifest:
    """A manifest of four utterances whose curves lie in reverse order, and its file ``manifest.csv``."""
    folder.mkdir(parents=True)
    array = folder / "intensity.npy"
    write_curves(array, values, LENGTHS, [f"{corpus}{row}" for row in range(4)], described(**changed))
    table = pd.DataFrame(
        {
            "key": [f"{corpus}-{row}" for row in range(4)],
            "file": [f"{row}.wav" for row in range(4)],
            "corpus": corpus,
            "take": ["a", "b", None, "c"],
            "intensity": [cell(array, 3 - row) for row in range(4)],
        }
    )
    manifest = Manifest(table, {corpus: folder / "audio"})
    manifest.write(folder / "manifest.csv")
    return manifest


def test_curves_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "run")
    curves = read_curves(manifest)
    assert (len(curves), curves.hop_seconds, curves.lengths.tolist()) == (4, 0.04, LENGTHS[::-1])
    for row in range(4):
        np.testing.assert_array_equal(curves.row(row), OWN[3 - row])
        np.testing.assert_array_equal(curves.row(row, fold=7), OWN[3 - row])  # one column serves every fold
    np.testing.assert_array_equal(read_curves(manifest.where(["c-2"])).row(0), OWN[1])
    assert curves.row(0).dtype == np.float32
    assert curves.speakers_with_labels() == curves.speakers_with_labels(3) == ["c/1"]
    assert isinstance(np.load(tmp_path / "run" / "intensity.npy", mmap_mode="r"), np.memmap)
    info = json.loads((tmp_path / "run" / "intensity.json").read_text())
    assert (info["lengths"], info["hashes"]) == (LENGTHS, ["c0", "c1", "c2", "c3"])


def test_each_fold_has_its_own_column(tmp_path: Path) -> None:
    seen = {"with_labels": {"1": ["c/1"], "2": ["c/2"]}, "without_labels": ["c/1", "c/2"]}
    both = np.concatenate([VALUES, 1 - VALUES], axis=1)
    curves = read_curves(annotated(tmp_path / "run", values=both, folds=[1, 2], speakers_seen=seen))
    np.testing.assert_array_equal(curves.row(3, 1), OWN[0])
    np.testing.assert_array_equal(curves.row(3, 2), 1 - OWN[0])
    assert [curves.speakers_with_labels(fold) for fold in (1, 2)] == [["c/1"], ["c/2"]]
    for fold, asked in ((None, "none was asked"), (3, "3 was asked")):
        with pytest.raises(ManifestError, match=f"each of the folds 1, 2 of p, and {asked}"):
            curves.row(0, fold)
        with pytest.raises(ManifestError, match=asked):
            curves.speakers_with_labels(fold)
    curves.check_protocol("p")
    for other in ("q", None):
        with pytest.raises(
            ManifestError,
            match=f"fold by fold of p, and {other or 'no protocol'} is asked for; ask for the first",
        ):
            curves.check_protocol(other)
    read_curves(annotated(tmp_path / "one")).check_protocol("q")


def test_a_manifest_and_its_curves_move_together(tmp_path: Path) -> None:
    annotated(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "run")
    curves = read_curves(Manifest.read(tmp_path / "elsewhere" / "run" / "manifest.csv"))
    np.testing.assert_array_equal(curves.row(2), OWN[1])


def test_joined_manifests_keep_the_curves_of_each_and_all_speakers(tmp_path: Path) -> None:
    seen = {"with_labels": {"": ["c/1", "c/9"]}, "without_labels": ["d/1"]}
    both = [annotated(tmp_path / "c"), annotated(tmp_path / "d", "d", VALUES + 1, speakers_seen=seen)]
    curves = read_curves(Manifest.join(both))
    np.testing.assert_array_equal(curves.row(1), OWN[2])
    np.testing.assert_array_equal(curves.row(5), OWN[2] + 1)
    assert curves.speakers_with_labels() == ["c/1", "c/9"]
    assert curves.info["speakers_seen"]["without_labels"] == ["c/1", "c/2", "d/1"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"source": "loudness", "protocol": None}, "loudness of no protocol, every 0.04 s"),
        ({"source_sha256": "other"}, "several sources"),
        ({"hop_seconds": 0.02}, "every 0.02 s"),
    ],
)
def test_curves_of_several_sources_are_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    mixed = Manifest.join([annotated(tmp_path / "c"), annotated(tmp_path / "d", "d", **changed)])
    with pytest.raises(ManifestError, match=rf"curves of several sources \(.*{named}.*|{named}"):
        read_curves(mixed)


def test_a_column_that_is_missing_empty_or_of_something_else_is_named(tmp_path: Path) -> None:
    manifest = annotated(tmp_path / "run")
    with pytest.raises(ManifestError, match=r"lacks the column 'loudness'.*affetto annotate intensity"):
        read_curves(manifest, "loudness")
    with pytest.raises(ManifestError, match=r"c-0: the column 'take' holds 'a'; FILE\.npy#ROW is needed"):
        read_curves(manifest, "take")
    table = manifest.table.copy()
    table.loc[[1, 2], "intensity"] = None
    with pytest.raises(ManifestError, match=r"empty in 2 rows: c-1, c-2; run affetto annotate intensity"):
        read_curves(Manifest(table, manifest.roots))
    with pytest.raises(ManifestError, match="no rows"):
        read_curves(manifest.where([]))


def shorter(folder: Path) -> None:
    """Leaves the last curve out of the array and of what describes it."""
    array = folder / "intensity.npy"
    write_curves(array, VALUES[:9], LENGTHS[:3], ["a", "b", "c"], described())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "intensity.npy").unlink(), "move a manifest together"),
        (lambda folder: (folder / "intensity.npy").write_bytes(b"no array"), "cannot be read"),
        (lambda folder: np.save(folder / "intensity.npy", VALUES[:5]), "do not belong together"),
        (lambda folder: (folder / "intensity.json").unlink(), "does not say what made intensity.npy"),
        (lambda folder: (folder / "intensity.json").write_text("{"), "does not say what made"),
        (lambda folder: (folder / "intensity.json").write_text("[]"), "describes no curves, it lacks folds"),
        (shorter, "has 3 curves; the manifest asks for row 3"),
    ],
)
def test_a_damaged_array_says_what_to_do(tmp_path: Path, damage: Any, message: str) -> None:
    manifest = annotated(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(ManifestError, match=message):
        read_curves(manifest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": VALUES[:12]},
        {"values": VALUES[:, 0]},
        {"values": np.tile(VALUES, 2)},
        {"lengths": LENGTHS[:3]},
        {"hashes": ["a"]},
        {"info": described(folds=[1, 2])},
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    right = {"values": VALUES, "lengths": LENGTHS, "hashes": list("abcd"), "info": described()}
    with pytest.raises(ManifestError, match="must fit each other"):
        write_curves(tmp_path / "x.npy", **{**right, **wrong})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("hop", "step"), [(0.04, 0.01), (0.01, 0.08), (0.03, 0.02)])
def test_alignment_is_linear_in_time(hop: float, step: float) -> None:
    curve = np.random.default_rng(0).random(240)
    frames = round(240 * hop / step)
    expected = np.interp((np.arange(frames) + 0.5) * step, (np.arange(240) + 0.5) * hop, curve)
    np.testing.assert_allclose(aligned(curve, hop, frames, step), expected, atol=1e-6)


def test_equal_steps_leave_a_curve_as_it_is(tmp_path: Path) -> None:
    curve = np.random.default_rng(0).random(50).astype(np.float32)
    np.testing.assert_allclose(aligned(curve, 0.02, 50, 0.02), curve, atol=1e-6)
    np.testing.assert_allclose(aligned(curve, 0.02, 52, 0.02)[-3:], curve[-1], atol=1e-6)
    curves = read_curves(annotated(tmp_path / "run"))
    np.testing.assert_allclose(curves.aligned(0, 4, 0.04), OWN[3], atol=1e-6)


def test_another_duration_is_refused_by_name(tmp_path: Path) -> None:
    curve = np.zeros(100)
    for frames in (92, 108):  # 5 % and three frames
        assert len(aligned(curve, 0.01, frames, 0.01)) == frames
    for frames in (91, 110):
        with pytest.raises(
            ManifestError, match=rf"k: its curve lasts 1\.00 s and its features {frames / 100:.2f} s"
        ):
            aligned(curve, 0.01, frames, 0.01, key="k")
    with pytest.raises(ManifestError, match=r"lasts 0\.00 s"):
        aligned(curve[:0], 0.01, 1, 0.01)
    curves = read_curves(annotated(tmp_path / "run"))
    with pytest.raises(
        ManifestError, match=r"c-1: its curve lasts 0\.04 s.*affetto annotate intensity again"
    ):
        curves.aligned(1, 400, 0.01)
