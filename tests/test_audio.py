"""Every format, depth and rate decodes alike; every kind of bad file is refused in words that help."""

import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE, blocks, decode, from_int16, prepare, read_info, to_int16
from affetto.errors import AudioError


def tone(seconds: float = 1.0, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(
    samples: NDArray[np.float32], rate: int, container: str, subtype: str, **options: object
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def without_edges(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples[800:-800]


def test_importing_audio_loads_no_torch() -> None:
    code = "import sys, affetto.audio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("container", "subtype", "error"),
    [
        ("WAV", "PCM_U8", 1 / 127),
        ("WAV", "PCM_16", 1 / 32767),
        ("WAVEX", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0.0),
        ("WAV", "DOUBLE", 0.0),
        ("FLAC", "PCM_16", 1 / 32767),
        ("FLAC", "PCM_24", 1e-6),
        ("AIFF", "PCM_16", 1 / 32767),
    ],
)
def test_lossless_formats_give_the_samples_back(container: str, subtype: str, error: float) -> None:
    decoded = decode(encoded(tone(), SAMPLE_RATE, container, subtype))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, tone(), atol=error)


@pytest.mark.parametrize(
    ("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
)
def test_lossy_formats_keep_length_pitch_and_level(container: str, subtype: str) -> None:
    decoded = decode(encoded(tone(), SAMPLE_RATE, container, subtype))
    assert len(decoded) == SAMPLE_RATE
    assert np.argmax(np.abs(np.fft.rfft(decoded))) == 440
    assert np.std(without_edges(decoded)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_stereo_float_at_8_khz_is_averaged_and_resampled() -> None:
    stereo = np.stack([tone(rate=8000), 0.5 * tone(rate=8000)], axis=1)
    decoded = decode(encoded(stereo, 8000, "WAV", "FLOAT"))
    assert decoded.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(without_edges(decoded), without_edges(0.75 * tone()), atol=1e-3)


def test_24_bit_at_96_khz_is_resampled() -> None:
    decoded = decode(encoded(tone(rate=96_000), 96_000, "WAV", "PCM_24"))
    assert decoded.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(without_edges(decoded), without_edges(tone()), atol=1e-4)


def test_what_16_khz_cannot_hold_is_removed() -> None:
    decoded = decode(encoded(tone(rate=48_000, hertz=12_000), 48_000, "WAV", "FLOAT"))
    assert np.abs(without_edges(decoded)).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 16_000, 96_000])
def test_one_sample_decodes(rate: int) -> None:
    decoded = decode(encoded(np.full(1, 0.25, np.float32), rate, "WAV", "FLOAT"))
    assert len(decoded) == max(1, SAMPLE_RATE // rate)
    assert np.isfinite(decoded).all()


def test_silence_decodes() -> None:
    assert not decode(encoded(np.zeros(1600, np.float32), SAMPLE_RATE, "FLAC", "PCM_16")).any()


def test_path_bytes_and_open_file_decode_alike(tmp_path: Path) -> None:
    raw = encoded(tone(), SAMPLE_RATE, "FLAC", "PCM_16")
    path = tmp_path / "a.flac"
    path.write_bytes(raw)
    with open(path, "rb") as handle:
        opened = decode(handle)
    for other in (opened, decode(raw), decode(str(path))):
        np.testing.assert_array_equal(decode(path), other)


def test_a_part_is_cut_out() -> None:
    raw = encoded(tone(2.0), SAMPLE_RATE, "FLAC", "PCM_16")
    np.testing.assert_array_equal(decode(raw, 0.5, 1.25), decode(raw)[8000:20_000])
    np.testing.assert_array_equal(decode(raw, start=1.5), decode(raw)[24_000:])
    np.testing.assert_array_equal(decode(raw, end=2.05), decode(raw))


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 3.0), (-0.5, 1.0), (1.0, 0.5), (0.0, 2.3), (float("nan"), 1.0)]
)
def test_a_part_outside_is_refused(start: float, end: float) -> None:
    with pytest.raises(AudioError, match=r"recording of 2\.000 s"):
        decode(encoded(tone(2.0), SAMPLE_RATE, "WAV", "PCM_16"), start, end)


def test_info_comes_from_the_header() -> None:
    stereo = np.stack([tone(rate=8000), tone(rate=8000)], axis=1)
    assert read_info(encoded(stereo, 8000, "FLAC", "PCM_24")) == (8000, 2, 8000, 1.0)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing.wav"
    path.touch()
    with pytest.raises(AudioError, match=r"nothing\.wav: the file is empty"):
        decode(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        decode(tmp_path / "gone.wav")


def test_a_text_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "letter.wav"
    path.write_text("Dear listener, " * 100)
    with pytest.raises(AudioError, match=r"letter\.wav: not audio"):
        decode(path)


def test_a_file_without_samples_is_refused() -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        decode(encoded(np.zeros(0, np.float32), SAMPLE_RATE, "WAV", "PCM_16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_counted(bad: float) -> None:
    samples = tone()
    samples[[5, 700]] = bad
    with pytest.raises(AudioError, match="2 of 16000 samples are NaN or infinite"):
        decode(encoded(samples, SAMPLE_RATE, "WAV", "FLOAT"))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_24"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_a_truncated_file_says_how_much_is_there(container: str, subtype: str) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    raw = encoded(noise, SAMPLE_RATE, container, subtype)
    with pytest.raises(
        AudioError, match=r"truncated: it holds (1\.[789]|2\.0)\d* s .* promises (4\.00|3\.99) s"
    ):
        decode(raw[: len(raw) // 2])
    assert len(decode(raw)) == len(noise)


def test_a_truncated_opus_file_is_refused() -> None:
    raw = encoded(tone(4.0), SAMPLE_RATE, "OGG", "OPUS")
    for share in (0.5, 0.99):
        with pytest.raises(AudioError, match="truncated: it holds"):
            decode(raw[: int(len(raw) * share)])


def test_a_length_left_open_by_a_pipe_is_no_truncation() -> None:
    raw = bytearray(encoded(tone(), SAMPLE_RATE, "WAV", "PCM_16"))
    raw[40:44] = b"\xff\xff\xff\xff"
    assert len(decode(bytes(raw))) == SAMPLE_RATE


def test_an_mp3_that_never_said_how_long_it_is_decodes() -> None:
    raw = encoded(tone(5.0), SAMPLE_RATE, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT")
    first_frame_with_sound = raw.find(raw[:2], 4)
    picture = b"ID3\x04\x00\x00" + bytes([0, 6, 0, 0]) + bytes(6 << 14)
    decoded = decode(picture + raw[first_frame_with_sound:])
    assert len(decoded) == pytest.approx(5 * SAMPLE_RATE, abs=2000)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_prepare_scales_any_type(dtype: str) -> None:
    scale = {"uint8": 127.0, "int16": 32767.0, "int32": 2147483000.0}.get(dtype, 1.0)
    offset = 128 if dtype == "uint8" else 0
    samples = (tone().astype(np.float64) * scale + offset).astype(dtype)
    np.testing.assert_allclose(prepare(samples, SAMPLE_RATE), tone(), atol=0.02 if offset else 1e-4)


def test_prepare_takes_channels_first_or_last() -> None:
    stereo = np.stack([tone(), 0.5 * tone()])
    np.testing.assert_allclose(prepare(stereo, SAMPLE_RATE), 0.75 * tone(), atol=1e-6)
    np.testing.assert_array_equal(prepare(stereo, SAMPLE_RATE), prepare(stereo.T, SAMPLE_RATE))
    assert len(prepare(tone(rate=44_100), 44_100)) == SAMPLE_RATE


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 3, 4)), 16_000, "shape"),
        (np.zeros(0), 16_000, "no samples"),
        (np.array([0.0, np.nan]), 16_000, "NaN"),
        (np.zeros(5, complex), 16_000, "complex128"),
        (np.zeros(5), 0, "rate of 0"),
    ],
)
def test_prepare_refuses(samples: NDArray[np.float64], rate: int, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        prepare(samples, rate)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_joined_are_what_decode_returns(rate: int) -> None:
    raw = encoded(tone(3.3, rate), rate, "FLAC", "PCM_16")
    pieces = list(blocks(raw, 1.0))
    assert [start for start, _ in pieces] == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_allclose(np.concatenate([piece for _, piece in pieces]), decode(raw), atol=1e-6)


def test_blocks_of_a_part_are_those_of_the_part() -> None:
    content = encoded(tone(3.0, 44_100), 44_100, "FLAC", "PCM_16")
    part = decode(content, 0.7, 2.2)
    found = [block for _, block in blocks(content, 0.4, 0.0, 0.7, 2.2)]
    assert [len(block) for block in found] == [6400, 6400, 6400, 4800]
    np.testing.assert_allclose(np.concatenate(found), part, atol=1e-5)
    with pytest.raises(AudioError, match=r"got the part from 2 s to 4 s of a recording of 3\.000 s"):
        list(blocks(content, 0.4, 0.0, 2.0, 4.0))


def test_blocks_overlap() -> None:
    raw = encoded(tone(3.0), SAMPLE_RATE, "FLAC", "PCM_16")
    pieces = list(blocks(raw, 2.0, 1.5))
    assert [(start, len(samples)) for start, samples in pieces] == [
        (0.0, 32_000),
        (0.5, 32_000),
        (1.0, 32_000),
    ]
    for start, samples in pieces:
        np.testing.assert_array_equal(samples, decode(raw, start, start + 2.0))


def test_blocks_refuse_what_decode_refuses() -> None:
    raw = encoded(tone(4.0), SAMPLE_RATE, "FLAC", "PCM_16")
    with pytest.raises(AudioError, match="truncated"):
        list(blocks(raw[: len(raw) // 2], 1.0))
    with pytest.raises(AudioError, match="overlap"):
        next(blocks(raw, 1.0, 1.0))
    one = list(blocks(encoded(np.ones(1, np.float32), 96_000, "WAV", "FLOAT"), 1.0))
    assert len(one) == 1
    assert len(one[0][1]) == 1


def test_an_hour_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    minute = np.zeros(60 * 16_000, np.int16)
    minute[:16_000] = to_int16(tone())
    with soundfile.SoundFile(path, "w", 16_000, 1, format="FLAC") as file:
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    count = total = 0
    for start, samples in blocks(path, 20.0):
        assert start == 20.0 * count
        count, total = count + 1, total + len(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, total) == (180, 3600 * SAMPLE_RATE)
    assert peak < 10e6  # the hour itself is 230 MB


def test_16_bits_survive_the_round_trip() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_int16(from_int16(every)), every)
    assert to_int16(np.array([2.0, -2.0], np.float32)).tolist() == [32767, -32768]


@pytest.mark.corpora
def test_real_recordings_decode(corpora_root: Path) -> None:
    files = [
        next((corpora_root / folder).iterdir())
        for folder in ("crema-d/AudioWAV", "ravdess/Actor_01", "emodb/wav")
    ]
    for file in files:
        samples = decode(file)
        assert len(samples) == read_info(file).frames
        assert 0.001 < np.std(samples) < 0.5


@pytest.mark.parametrize("seconds", [1.0, 70.0])
def test_channels_that_are_silent_or_opposite_do_not_take_the_sound_away(seconds: float) -> None:
    one = np.tile(tone(), round(seconds))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2, len(one))).astype(np.float32)
    for channels, expected in (
        ([one, 0 * one], one),
        ([0 * one, 0.003 * one, one], one),
        ([one, -one], one),
        ([0.7 * one, -one], -one),
        ([one, 0.5 * one], 0.75 * one),
        ([noise[0], noise[1]], (noise[0] + noise[1]) / 2),
        ([0 * one, 0 * one], 0 * one),
    ):
        stereo = np.stack(channels, axis=1)
        content = encoded(stereo, SAMPLE_RATE, "WAV", "FLOAT")
        np.testing.assert_allclose(decode(content), expected, atol=1e-6)
        np.testing.assert_allclose(prepare(stereo, SAMPLE_RATE), expected, atol=1e-6)
        joined = np.concatenate([block for _, block in blocks(content, 10.0)])
        np.testing.assert_allclose(joined, expected, atol=1e-6)
