"""Duration, loudness and pitch are what a ruler would say; columns that group nothing are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from affetto.analysis.confounds import columns, measured
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError
from affetto.material import recordings

RATE = 16_000


@pytest.fixture
def tones(tmp_path: Path) -> Manifest:
    """Harmonic tones of known length, level and pitch, noise, silence, and no sound at all."""
    generator = np.random.default_rng(0)
    for name, seconds, pitch, level in (("a", 1.0, 110, 0.1), ("b", 2.5, 220, 0.02), ("c", 1.7, 330, 0.3)):
        times = np.arange(round(seconds * RATE)) / RATE
        wave = sum(np.sin(2 * np.pi * pitch * number * times) / number for number in range(1, 6))
        soundfile.write(
            tmp_path / f"{name}.wav", level * wave / np.sqrt(np.mean(np.square(wave))), RATE, "FLOAT"
        )
    soundfile.write(tmp_path / "d.wav", 0.05 * generator.normal(size=RATE), RATE, "FLOAT")
    soundfile.write(tmp_path / "e.wav", np.zeros(RATE), RATE)
    (tmp_path / "f.wav").write_text("no sound")
    return Manifest(pd.DataFrame({"file": [f"{name}.wav" for name in "abcdef"]}), {"": tmp_path})


def test_recordings_are_measured(tones: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    found, unreadable = measured(tones)
    assert list(unreadable) == ["f"]
    np.testing.assert_allclose(found["duration"], [1, 2.5, 1.7, 1, 1, np.nan])
    wanted = [20 * np.log10(level) for level in (0.1, 0.02, 0.3, 0.05)]
    np.testing.assert_allclose(found["loudness"], [*wanted, -100, np.nan], atol=0.1)
    np.testing.assert_allclose(np.exp(found["pitch"][:3]), [110, 220, 330], rtol=0.01)
    assert np.isnan(found["pitch"][4:]).all()

    def refuse(*_: object) -> None:
        raise AssertionError("what was measured is measured again")

    monkeypatch.setattr(recordings.Embedder, "__call__", refuse)
    again, _ = measured(tones)
    np.testing.assert_array_equal(again["loudness"], found["loudness"])


def test_no_recording_at_all(tones: Manifest) -> None:
    with pytest.raises(ManifestError, match="none of the 1 recordings"):
        measured(tones.where({"f"}))


def test_columns_that_group_nothing_are_refused() -> None:
    groups = np.repeat([0, 1], 8)
    table = pd.DataFrame(
        {
            "file": [f"{row}.wav" for row in range(16)],
            "gender": ["male"] * 8 + ["female"] * 8,
            "words": [f"sentence {row}" for row in range(16)],
            "room": [None, "a", "b", "a"] * 4,
            "empty": [None] * 16,
            "level": np.arange(16.0),
            "loud": np.arange(16) % 2 > 0,
        }
    )
    found, refused = columns(table, groups, {"pitch": np.full(16, np.nan)}, 4, ())
    names = {column.name: column for column in found}
    assert set(names) == {"room", "level", "loud"}
    assert names["room"].codes.tolist() == [-1, 0, 1, 0] * 4
    assert (names["room"].bins, names["level"].bins) == (0, 4)
    assert names["level"].codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    assert refused == {
        "pitch": "no value",
        "gender": "the same throughout each speaker",
        "words": "nearly every utterance has a value of its own",
        "source file": "nearly every utterance has a value of its own",
        "source folder": "the same throughout each speaker",
    }
