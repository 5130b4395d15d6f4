"""Controls of curves, written as columns by a script: the same recordings, led by something else."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from affetto.audio import decode
from affetto.config import load
from affetto.corpora.curves import read_curves
from affetto.corpora.manifest import Manifest
from affetto.features import FrontEnd
from affetto.intensity.run import annotate_intensity
from affetto.intensity.sources import IntensitySettings
from affetto.masking import MaskSettings
from helpers import script


@pytest.fixture(scope="module")
def controls() -> ModuleType:
    return script("experiments/controls.py")


def test_curves_are_turned_or_shuffled(controls: ModuleType) -> None:
    curve = np.linspace(0, 1, 50, dtype=np.float32)
    np.testing.assert_allclose(controls.low_intensity(curve), 1 - curve)
    shuffled, again, other = controls.shuffled_intensity([curve] * 3, [3, 3, 4])
    assert sorted(shuffled) == sorted(curve)
    assert not np.array_equal(shuffled, curve)
    np.testing.assert_array_equal(shuffled, again)
    assert not np.array_equal(shuffled, other)


def test_a_control_is_a_column_that_leads_a_mask(
    controls: ModuleType, corpus: Manifest, listed: Path, tmp_path: Path
) -> None:
    settings = load(IntensitySettings, {"source": "voicing", "name": "intensity"})
    run = annotate_intensity(listed, settings, tmp_path / "run")
    out = tmp_path / "both.csv"
    controls.main(["low-intensity", str(run / "manifest.csv"), "--out", str(out)])
    controls.main(["shuffled-intensity", str(out), "--out", str(out)])
    manifest = Manifest.read(out)
    curves = read_curves(manifest, "intensity")
    for row in (0, 17):
        frames = FrontEnd().frame_count(len(decode(corpus.paths[row])))
        plain = curves.aligned(row, frames, 0.01)
        low, shuffled = (
            read_curves(manifest, str(MaskSettings(guidance=name).curve)).aligned(row, frames, 0.01)
            for name in ("low-intensity", "shuffled-intensity")
        )
        np.testing.assert_array_equal(low, 1 - plain)
        # As the library shuffled it before there was a column: frame by frame, the seed the row.
        np.testing.assert_array_equal(shuffled, np.random.default_rng(row).permutation(plain))
    made = read_curves(manifest, "shuffled-intensity")
    assert made.info["source"] == "shuffled-intensity of voicing"
    assert made.info["speakers_seen"] == curves.info["speakers_seen"]
    assert made.info["source_sha256"] != curves.info["source_sha256"]


def test_an_utterance_without_a_curve_gets_none(controls: ModuleType, listed: Path, tmp_path: Path) -> None:
    settings = load(IntensitySettings, {"source": "voicing", "name": "intensity"})
    given = Manifest.read(annotate_intensity(listed, settings, tmp_path / "run") / "manifest.csv")
    given = Manifest(given.table.assign(intensity=[None, *given.table["intensity"][1:]]), given.roots)
    found = controls.with_curve_control(given, "low-intensity", tmp_path / "new.csv", name="turned")
    assert found.table["turned"].isna().tolist() == [True] + [False] * (len(given) - 1)
    assert len(read_curves(found.where(found.table["turned"].notna().to_numpy()), "turned")) == len(given) - 1
