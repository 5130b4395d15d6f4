"""Headers that say less or more than there is: all samples, or an error, in memory that the file bounds."""

import io
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affetto.audio import SAMPLE_RATE, blocks, decode, read_info
from affetto.errors import AudioError
from affetto.inference.sources import Clip, decoded


def noise(seconds: float, level: float = 0.1) -> np.ndarray[Any, np.dtype[np.float32]]:
    chance = np.random.default_rng(0)
    return (level * chance.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def encoded(seconds: float, kind: str, subtype: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(seconds), SAMPLE_RATE, format=kind, subtype=subtype, **options)
    return buffer.getvalue()


def mp3(seconds: float, **options: Any) -> bytes:
    return encoded(seconds, "MP3", "MPEG_LAYER_III", **options)


def opus(seconds: float) -> bytes:
    return encoded(seconds, "OGG", "OPUS")


def flac_of_unknown_length(seconds: float) -> bytes:
    raw = bytearray(encoded(seconds, "FLAC", "PCM_16"))
    raw[18:26] = (int.from_bytes(raw[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    return bytes(raw)


def wav_of_size(size: int, seconds: float = 2.0) -> bytes:
    raw = bytearray(encoded(seconds, "WAV", "PCM_16"))
    raw[4:8], raw[40:44] = struct.pack("<I", min(size + 36, 0xFFFFFFFF)), struct.pack("<I", size)
    return bytes(raw)


def mp3_without_count() -> bytes:
    loud_then_silent = np.r_[noise(3.0, 0.3), np.zeros(9 * SAMPLE_RATE, np.float32)]
    buffer = io.BytesIO()
    options: Any = {"bitrate_mode": "VARIABLE"}
    soundfile.write(buffer, loud_then_silent, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", **options)
    raw = buffer.getvalue()
    return raw[raw.find(raw[:2], 4) :]


def xing_of_terabytes() -> bytes:
    raw = bytearray(mp3(2.0, bitrate_mode="VARIABLE"))
    mark = raw.find(b"Xing")
    raw[mark + 8 : mark + 12] = b"\xff\xff\xff\xf0"
    return bytes(raw)


NEEDS_FFMPEG = {
    "MP3 of variable rate without a count": (mp3_without_count(), 12.0),
    "joined MP3": (mp3(3.0) + mp3(2.0), 5.0),
    "chained Ogg": (opus(2.0) + opus(1.0), 3.0),
    "FLAC of unknown length": (flac_of_unknown_length(1.0), 1.0),
    "long FLAC of unknown length": (flac_of_unknown_length(70.0), 70.0),
    "WAV of size 0": (wav_of_size(0), 2.0),
}


@pytest.mark.parametrize("name", NEEDS_FFMPEG)
def test_all_samples_are_read_though_the_header_says_less(name: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    content, seconds = NEEDS_FFMPEG[name]
    file = tmp_path / "recording"
    file.write_bytes(content)
    for source in (file, content, io.BytesIO(content)):
        notes: dict[str, str] = {}
        assert len(decode(source, notes=notes)) / SAMPLE_RATE == pytest.approx(seconds, abs=0.2)
        assert list(notes) == ["header"]
    assert read_info(file).duration_seconds == pytest.approx(seconds, abs=0.2)
    assert sum(len(block) for _, block in blocks(file, 1.0)) == len(decode(file))


@pytest.mark.parametrize("name", NEEDS_FFMPEG)
def test_without_pyav_the_error_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'affetto\[media\]'"):
        decode(NEEDS_FFMPEG[name][0])


@pytest.mark.parametrize(
    "size", [64_001, 64_016, 64_044, 2_000_000_000, 0x7FFFFFFF, 0xFFFFFFFF], ids="{:#x}".format
)
def test_sizes_that_stand_for_unknown_or_count_the_header(size: int) -> None:
    odd, usual = dict[str, str](), dict[str, str]()
    assert np.array_equal(decode(wav_of_size(size), notes=odd), decode(wav_of_size(64_000), notes=usual))
    assert f"counts {size} bytes of sound, and there are 64000" in odd["header"]
    assert not usual


def test_a_wav_that_was_cut_is_refused() -> None:
    with pytest.raises(AudioError, match=r"holds 1\.00 s .* promises 2\.00 s"):
        decode(encoded(2.0, "WAV", "PCM_16")[: 44 + 32_000])


def test_an_empty_wav_with_a_chunk_behind_is_empty() -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        decode(wav_of_size(0, 0.0) + b"LIST" + struct.pack("<I", 40) + bytes(40))


def test_whole_recordings_are_read_by_libsndfile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    for content in (mp3(2.0), mp3(2.0, bitrate_mode="VARIABLE"), opus(2.0), mp3(2.0) + b"TAG" + bytes(125)):
        notes: dict[str, str] = {}
        assert len(decode(content, notes=notes)) / SAMPLE_RATE == pytest.approx(2.0, abs=0.2)


def test_what_a_header_promises_is_not_allocated() -> None:
    content = xing_of_terabytes()
    tracemalloc.start()
    with pytest.raises(AudioError, match="truncated: it holds 2"):
        decode(content)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64 << 20


def test_damage_anywhere_gives_samples_or_a_worded_error() -> None:
    chance, said = np.random.default_rng(1), list[str]()
    for content in (encoded(0.5, "FLAC", "PCM_16"), mp3(0.5), opus(0.5), encoded(0.5, "WAV", "PCM_16")):
        for _ in range(40):
            raw = bytearray(content)
            for place in chance.integers(0, min(len(raw), 200), 3):
                raw[place] = chance.integers(256)
            try:
                decode(bytes(raw))
            except AudioError as error:
                said.append(str(error))
    assert said
    assert [text for text in said if ";" not in text] == []


def test_a_rate_of_a_few_samples_a_second_is_refused() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(0.5), 20, format="WAV", subtype="PCM_16")
    with pytest.raises(AudioError, match="got 20 samples a second; at least 1000"):
        decode(buffer.getvalue())


def test_a_small_file_of_hours_is_not_decoded_at_once(tmp_path: Path) -> None:
    file = tmp_path / "silence.flac"
    soundfile.write(file, np.zeros(16_000 * 300, np.int16), 16_000, compression_level=1.0)
    assert file.stat().st_size < 1 << 16
    assert decoded(Clip("silence", file)) is None
