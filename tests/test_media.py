"""Recordings that PyAV decodes: m4a, mp4, webm, amr and the like."""

import gc
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from affetto import media
from affetto.audio import blocks, decode, read_info
from affetto.corpora import scan
from affetto.errors import AudioError
from affetto.inference.sources import clips
from affetto.media import forget_waves
from helpers import encode

pytest.importorskip("av")

SECONDS = 2.0
KINDS = {
    "m4a": ("aac", 44_100),
    "mp4": ("aac", 16_000),
    "mov": ("alac", 44_100),
    "webm": ("libopus", 48_000),
    "mkv": ("ac3", 48_000),
    "3gp": ("libopencore_amrnb", 8_000),
    "amr": ("libopencore_amrnb", 8_000),
    "aac": ("aac", 16_000),
    "wv": ("wavpack", 16_000),
}


def tone(rate: int) -> NDArray[np.float64]:
    times = np.arange(round(SECONDS * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * 440 * times) * np.minimum(1, times)


@pytest.fixture(autouse=True)
def waves(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gives every test a temporary folder of its own, which is empty at the end."""
    folder = tmp_path_factory.mktemp("waves")
    monkeypatch.setattr(media.tempfile, "tempdir", str(folder))
    yield folder
    media._of_file.cache_clear()
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", KINDS)
def test_what_pyav_reads_is_decoded_like_the_rest(suffix: str, tmp_path: Path) -> None:
    codec, rate = KINDS[suffix]
    file = encode(tmp_path / f"a.{suffix}", tone(rate), rate, codec)
    info, samples = read_info(file), decode(file)
    assert (info.rate, info.channels) == (rate, 1)
    assert info.duration_seconds == pytest.approx(SECONDS, abs=0.15)
    assert len(samples) == pytest.approx(16_000 * info.duration_seconds, abs=1)
    spectrum = np.abs(np.fft.rfft(samples[16_000:32_000]))
    assert np.argmax(spectrum) == 440
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.05)
    assert np.array_equal(decode(file.read_bytes()), samples)
    with open(file, "rb") as handle:
        assert np.array_equal(decode(handle), samples)
    np.testing.assert_allclose(np.concatenate([part for _, part in blocks(file, 0.7)]), samples, atol=1e-6)
    assert len(decode(file, 0.5, 1.25)) == 12_000


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(48_000)
    file = encode(tmp_path / "a.webm", np.stack([left, -0.5 * left]), 48_000, "libopus", "stereo")
    assert read_info(file).channels == 2
    alone = encode(tmp_path / "b.webm", left[None], 48_000, "libopus", "mono")
    assert np.abs(decode(file)).max() < 0.4 * np.abs(decode(alone)).max()


def test_a_recording_is_decoded_once_for_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(tmp_path / "a.m4a", tone(16_000), 16_000, "aac")
    whole = decode(file)
    monkeypatch.setattr(media, "_written", None)  # a second decoding would call it
    np.testing.assert_allclose(decode(file, 1.0, 1.5), whole[16_000:24_000], atol=1e-6)
    assert read_info(file).frames == len(whole)


def test_a_recording_that_was_replaced_is_decoded_again(tmp_path: Path) -> None:
    file = encode(tmp_path / "a.m4a", tone(16_000), 16_000, "aac")
    before = len(decode(file))
    encode(file, tone(16_000)[:16_000], 16_000, "aac")
    assert len(decode(file)) < before - 8_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the file has a name")
def test_what_is_decoded_has_no_name_that_a_killed_process_could_leave(
    tmp_path: Path, waves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [encode(tmp_path / f"{name}.m4a", tone(16_000), 16_000, "aac") for name in "ab"]
    whole = decode(files[0])
    assert list(waves.iterdir()) == []
    monkeypatch.setattr(media, "_written", None)
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:  # which read it at one time
        for found in pool.map(decode, 8 * [files[0]]):
            assert np.array_equal(found, whole)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    forget_waves()
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == opened - 1


def test_where_files_without_a_name_cannot_be_opened_one_with_a_name_is_removed(
    tmp_path: Path, waves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(tmp_path / "a.m4a", tone(16_000), 16_000, "aac")
    whole = decode(file)
    forget_waves()
    monkeypatch.setattr(media.os.path, "exists", lambda path: False)
    assert np.array_equal(decode(file), whole)
    assert [each.suffix for each in waves.iterdir()] == [".w64"]
    forget_waves()
    gc.collect()
    assert list(waves.iterdir()) == []


def test_without_pyav_the_error_has_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(tmp_path / "a.m4a", tone(16_000), 16_000, "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a: not audio .*pip install 'affetto\[media\]'"):
        decode(file)


def test_bad_ones_are_named(tmp_path: Path) -> None:
    text = tmp_path / "letter.m4a"
    text.write_text("no sound " * 100)
    with pytest.raises(
        AudioError, match=r"letter\.m4a: not audio that libsndfile reads.* and FFmpeg does not"
    ):
        decode(text)
    for suffix in ("m4a", "mkv"):
        codec, rate = KINDS[suffix]
        whole = encode(tmp_path / f"a.{suffix}", tone(rate), rate, codec).read_bytes()
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AudioError, match=rf"cut\.{suffix}: (not audio .* cut off|truncated: it holds)"):
            decode(cut)


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, text: str) -> None:
    other = encode(tmp_path / "other.aac", tone(16_000), 16_000, "aac")
    listed = tmp_path / "list.m4a"
    listed.write_text(text.format(other))
    with pytest.raises(AudioError, match="not audio"):
        decode(listed)


def test_folders_hold_them_too(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", tone(16_000), 16_000, "aac")
    encode(tmp_path / "b.webm", tone(48_000), 48_000, "libopus")
    assert [Path(clip.file).name for clip in clips(tmp_path)] == ["a.m4a", "b.webm"]
    assert scan("table", tmp_path, pattern=r"(?P<speaker>\w)\.").table["speaker"].tolist() == ["a", "b"]
