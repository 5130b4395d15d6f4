"""Damaged recordings of every format give samples or one AudioError, in bounded memory and time."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from changes import Change, changed, changes, fuzzed, recordings
from hypothesis import strategies as st

from affetto.audio import decode, read_info
from affetto.errors import AudioError
from affetto.inference.sources import Clip, Windows, cut, decoded
from affetto.media import forget_waves

resource = pytest.importorskip("resource")
SEEDS = recordings()
MIB_BEYOND, MOST_SECONDS = 600, 60.0


def peak_mib() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


@fuzzed(120, name=st.sampled_from(sorted(SEEDS)), other=st.sampled_from(sorted(SEEDS)), done=changes())
def test_a_damaged_recording_is_samples_or_an_audio_error(name: str, other: str, done: list[Change]) -> None:
    content = changed(SEEDS[name], done, SEEDS[other])
    before, began = peak_mib(), time.monotonic()
    for source in (content, io.BytesIO(content)):
        try:
            assert read_info(source).rate > 0
            samples = decode(source)
        except AudioError:
            pass
        else:
            assert samples.dtype == np.float32
            assert samples.size >= 1
            assert np.isfinite(samples).all()
    assert peak_mib() - before < MIB_BEYOND
    assert time.monotonic() - began < MOST_SECONDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@fuzzed(
    60,
    name=st.sampled_from(sorted(SEEDS)),
    done=changes(),
    start=st.none() | st.floats(-1.0, 1.0),
    end=st.none() | st.floats(0.0, 1e6),
    window=st.none() | st.sampled_from((0.1, 0.25, 30.0)),
)
def test_a_damaged_file_is_pieces_or_a_fault(
    folder: Path, name: str, done: list[Change], start: float | None, end: float | None, window: float | None
) -> None:
    file = folder / f"recording{Path(name).suffix}"
    file.write_bytes(changed(SEEDS[name], done))
    clip = Clip(str(file), file, start, end)
    before = peak_mib()
    *_, last = cut(clip, decoded(clip), Windows(window))
    assert last.last
    assert (last.samples is None) == bool(last.fault)
    forget_waves()
    assert peak_mib() - before < MIB_BEYOND
