"""Front ends equal librosa and Kaldi, do not see padding, and are fast enough to be used without a cache."""

import math
from collections.abc import Iterator
from pathlib import Path

import kaldi_native_fbank as knf
import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from affetto.audio import SAMPLE_RATE, decode
from affetto.config import build
from affetto.errors import ConfigError
from affetto.features import STATISTICS, VOICED, FrontEnd, functionals

FLOAT32_DEPTH = 18.0  # nats (78 dB) below the loudest band of a frame, where two float32 transforms part


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def speechlike(seconds: float, seed: int = 0, hertz: float = 140.0) -> NDArray[np.float32]:
    """Pulses through two resonances, with noise and pauses."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(
        np.cos(2 * np.pi * k * hertz * times) / (1 + ((k * hertz - 600) / 300) ** 2) for k in range(1, 40)
    )
    envelope = np.clip(np.sin(2 * np.pi * 1.5 * times), 0, 1)
    noise = 0.01 * generator.standard_normal(len(times))
    return (0.1 * voice * envelope + noise).astype(np.float32)


def real(corpora_root: Path, number: int) -> list[NDArray[np.float32]]:
    files = [
        *sorted((corpora_root / "crema-d" / "AudioWAV").iterdir())[5 :: 7442 // number],
        *sorted((corpora_root / "ravdess").glob("*/*"))[3 :: 1440 // number],
        *sorted((corpora_root / "emodb" / "wav").iterdir())[2 :: 535 // number],
    ]
    return [decode(file) for file in files]


def batched(waveforms: list[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch = torch.full((len(waveforms), int(lengths.max())), 7.0)  # padding must not be looked at
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


def alone(front_end: FrontEnd, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    features, _ = front_end(*batched([waveform]))
    return features[0].numpy()


def librosa_mel(waveform: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    return librosa.feature.melspectrogram(y=waveform, sr=16000, n_fft=400, hop_length=160, n_mels=bins).T


def kaldi(waveform: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = front_end.taper
    options.mel_opts.num_bins = front_end.bins
    options.mel_opts.low_freq, options.mel_opts.high_freq = front_end.band_hz
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, (waveform * 32768).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(number) for number in range(bank.num_frames_ready)])


def assert_logs_equal(ours: NDArray[np.float32], theirs: NDArray[np.float32], floor: float) -> None:
    assert ours.shape == theirs.shape
    above = (theirs > floor) & (theirs > theirs.max(axis=1, keepdims=True) - FLOAT32_DEPTH)
    np.testing.assert_allclose(ours[above], theirs[above], atol=1e-3, rtol=0)
    np.testing.assert_allclose(ours, theirs, atol=0.05, rtol=0)
    assert above.mean() > 0.5


SYNTHETIC = [speechlike(1.0), speechlike(0.73, 1, 230.0), speechlike(2.0, 2, 90.0)]


@pytest.mark.parametrize("waveform", SYNTHETIC)
def test_mel_equals_librosa(waveform: NDArray[np.float32]) -> None:
    ge2e = FrontEnd(kind="mel", bins=40)
    np.testing.assert_allclose(alone(ge2e, waveform), librosa_mel(waveform, 40), atol=1e-3)
    logmel = np.log(np.maximum(librosa_mel(waveform, 80), 1e-10))
    assert_logs_equal(alone(FrontEnd(), waveform), logmel, math.log(1e-10) + 1e-3)


@pytest.mark.parametrize("waveform", SYNTHETIC)
@pytest.mark.parametrize(
    "options", [{}, {"bins": 40, "low_hz": 64, "high_hz": 7600}, {"bins": 23}, {"taper": "hamming"}]
)
def test_fbank_equals_kaldi(waveform: NDArray[np.float32], options: dict[str, object]) -> None:
    front_end = build(FrontEnd, {"kind": "fbank", **options})
    assert_logs_equal(alone(front_end, waveform), kaldi(waveform, front_end), -15.0)


def test_a_large_constant_costs_fbank_no_digits() -> None:
    times = np.arange(16_000) / SAMPLE_RATE
    waveform = (0.3 + 1e-4 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    front_end = FrontEnd(kind="fbank")
    loudest = kaldi(waveform, front_end).max(axis=1)
    np.testing.assert_allclose(alone(front_end, waveform).max(axis=1), loudest, atol=1e-3)
    exact = kaldi((waveform - np.float32(0.3)).astype(np.float32), front_end).max(axis=1)
    np.testing.assert_allclose(alone(front_end, waveform).max(axis=1), exact, atol=1e-3)


@pytest.mark.corpora
def test_both_hold_on_real_recordings(corpora_root: Path) -> None:
    fbank = FrontEnd(kind="fbank")
    for waveform in real(corpora_root, 8):
        np.testing.assert_allclose(
            alone(FrontEnd(kind="mel", bins=40), waveform), librosa_mel(waveform, 40), atol=1e-3
        )
        logmel = np.log(np.maximum(librosa_mel(waveform, 80), 1e-10))
        assert_logs_equal(alone(FrontEnd(), waveform), logmel, math.log(1e-10) + 1e-3)
        assert_logs_equal(alone(fbank, waveform), kaldi(waveform, fbank), -15.0)


def test_digital_silence_gives_the_floor() -> None:
    silence = np.zeros(1600, np.float32)
    np.testing.assert_allclose(alone(FrontEnd(pitch=True), silence)[:, :80], math.log(1e-10), rtol=1e-6)
    assert not alone(FrontEnd(pitch=True), silence)[:, 80:].any()
    np.testing.assert_allclose(alone(FrontEnd(kind="fbank"), silence), math.log(2**-23), rtol=1e-6)
    for front_end in (FrontEnd(level_db=-30, kind="mel"), FrontEnd(cmvn=True, deltas=2)):
        assert not alone(front_end, silence).any()


@pytest.mark.parametrize(
    "front_end",
    [
        FrontEnd(kind="waveform"),
        FrontEnd(kind="waveform", cmvn=True),
        FrontEnd(kind="waveform", level_db=-30, levelled=True),
        FrontEnd(kind="mel", bins=40, level_db=-30),
        FrontEnd(kind="mel", bins=40, level_db=-30, tail_frames=2),
        FrontEnd(),
        FrontEnd(pitch=True, deltas=2, cmvn=True),
        FrontEnd(kind="fbank", deltas=1),
        FrontEnd(kind="fbank", taper="hamming"),
        FrontEnd(kind="fbank", pitch=True, cmvn=True, level_db=-20),
        FrontEnd(window_seconds=0.032, hop_seconds=0.016, pitch=True),
    ],
    ids=str,
)
def test_neither_padding_nor_batch_mates_change_an_answer(front_end: FrontEnd) -> None:
    waveforms = [*SYNTHETIC, speechlike(0.02), speechlike(3.1, 5), np.ones(1, np.float32)]
    together, lengths = batched(waveforms)
    together[torch.arange(together.shape[1]) >= lengths[:, None]] = torch.nan  # not even this is read
    features, counts = front_end(together, lengths)
    assert features.shape == (6, int(counts.max()), front_end.dim)
    summaries = functionals(features, counts, pitch=front_end.pitch)
    for row, waveform in enumerate(waveforms):
        count = int(counts[row])
        assert count == front_end.frame_count(len(waveform)) >= 1
        single, _ = front_end(*batched([waveform]))
        torch.testing.assert_close(features[row, :count], single[0], atol=1e-5, rtol=1e-5)
        assert not features[row, count:].any()
        summary = functionals(single, counts[row : row + 1], pitch=front_end.pitch)[0]
        torch.testing.assert_close(summaries[row], summary, atol=1e-4, rtol=1e-4)


def test_frames_past_the_end_see_its_edge_and_then_silence() -> None:
    for samples in (15_840, 15_999, 100):
        waveform = speechlike(1.0)[:samples]
        tailed = alone(FrontEnd(kind="mel", tail_frames=2), waveform)
        padded = alone(FrontEnd(kind="mel"), np.pad(waveform, (0, 800)))
        np.testing.assert_allclose(tailed, padded[: len(tailed)], atol=1e-6)
        assert not padded[len(tailed) :].any()


def test_frame_counts() -> None:
    assert FrontEnd(kind="mel", tail_frames=2).frame_count(16_000) == 103
    assert [FrontEnd().frame_count(samples) for samples in (1, 159, 160, 16_000)] == [1, 1, 2, 101]
    assert [FrontEnd(kind="fbank").frame_count(samples) for samples in (1, 400, 559, 560, 16_000)] == [
        1,
        1,
        1,
        2,
        98,
    ]
    assert FrontEnd(kind="waveform").frame_count(1000) == 1000
    assert FrontEnd().rate == SAMPLE_RATE
    assert FrontEnd().frame_seconds == 0.01
    assert FrontEnd(kind="waveform").frame_seconds == 1 / 16_000


def test_quiet_speech_is_raised_and_loud_speech_left() -> None:
    front_end = FrontEnd(kind="waveform", level_db=-30)
    for level, expected in ((-50.0, -30.0), (-30.0, -30.0), (-10.0, -10.0)):
        waveform = np.random.default_rng(0).standard_normal(8000)
        waveform *= 10 ** (level / 20) / np.sqrt(np.mean(waveform**2))
        raised = alone(front_end, waveform.astype(np.float32))
        assert 10 * np.log10(np.mean(raised.astype(np.float64) ** 2)) == pytest.approx(expected, abs=1e-3)


def test_a_levelled_utterance_shows_neither_gain_nor_offset_nor_pauses() -> None:
    front_end = FrontEnd(kind="waveform", level_db=-30, levelled=True)
    waveform = speechlike(1.0)
    plain = alone(front_end, waveform)
    for gain, offset in ((10.0, 0.0), (0.1, 0.0), (0.01, 0.02), (1.0, -0.3)):
        np.testing.assert_allclose(alone(front_end, gain * waveform + offset), plain, atol=1e-6)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for pause in (0, 80_000):
        levelled = alone(front_end, np.pad(noise, (0, pause)))[:16_000].astype(np.float64)
        assert 10 * np.log10(np.mean(levelled**2)) == pytest.approx(-30, abs=0.01)
    for silence in (np.zeros(9000), np.full(9000, 0.3)):
        assert np.abs(alone(front_end, silence)).max() < 1e-6


def test_deltas_are_slopes() -> None:
    waveform = SYNTHETIC[0]
    features = alone(FrontEnd(bins=20, deltas=2), waveform)
    assert features.shape[1] == 60
    static = np.pad(features[:, :20], ((2, 2), (0, 0)), mode="edge")
    for frame in (0, 1, 50, len(features) - 1):
        slope = sum(k * static[frame + 2 + k] for k in (-2, -1, 1, 2)) / 10
        np.testing.assert_allclose(features[frame, 20:40], slope, atol=1e-5)


def test_normalisation_gives_mean_0_and_deviation_1() -> None:
    features = alone(FrontEnd(cmvn=True, deltas=1), SYNTHETIC[2])
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("hertz", [62.0, 80.0, 110.0, 220.5, 333.0, 440.0, 490.0])
@pytest.mark.parametrize("harmonics", [1, 6])
def test_pitch_of_a_tone(hertz: float, harmonics: int) -> None:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(0.2 / k * np.sin(2 * np.pi * k * hertz * times) for k in range(1, harmonics + 1))
    track = alone(FrontEnd(bins=4, pitch=True), np.asarray(tone, np.float32))[10:-10]
    np.testing.assert_allclose(np.exp(track[:, -2]), hertz, rtol=0.005)
    assert track[:, -1].min() > 0.95


def test_noise_and_silence_have_no_pitch() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    track = alone(FrontEnd(bins=4, pitch=True), noise)
    assert (track[:, -1] >= VOICED).mean() < 0.02
    assert not track[track[:, -1] < VOICED, -2].any()


def slow_pitch(waveform: NDArray[np.float32], frame: int) -> tuple[float, float]:
    """Returns octave and strength of the highest peak of one frame's normalised cross-correlation.

    At the full rate, lag by lag. (librosa's pyin was the oracle until its compiled code crashed in a test.)
    """
    middle, half = 160 * frame, 512
    best = (0.0, 0.0)
    for lag in range(32, 267):  # 500 to 60 Hz
        left = waveform[middle - half : middle + half].astype(np.float64)
        right = waveform[middle - half + lag : middle + half + lag].astype(np.float64)
        strength = left @ right / math.sqrt(max(left @ left * (right @ right), 1e-12))
        # Every multiple of a period fits as well; the shortest that is nearly as good is meant.
        if strength > best[1] + 0.03:
            best = (math.log2(16000 / lag), strength)
    return best


def test_pitch_of_a_glide_is_that_of_its_formula_and_of_a_slow_search() -> None:
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 4 * np.pi * 110 * (2.0 ** (times / 2) - 1) / math.log(2)  # from 110 Hz up to 220 Hz
    voice = sum(0.2 / k * np.sin(k * phase) for k in range(1, 8))
    voice = np.asarray(voice + 0.003 * np.random.default_rng(0).standard_normal(len(times)), np.float32)
    track = alone(FrontEnd(bins=4, pitch=True), voice)
    expected = {20: 117.9, 60: 135.4, 100: 155.6, 140: 178.7, 180: 205.3}
    for frame, hertz in expected.items():
        assert np.exp(track[frame, -2]) == pytest.approx(hertz, rel=0.02)
        assert track[frame, -1] > 0.9
        octave, strength = slow_pitch(voice, frame)
        assert strength > 0.6
        assert track[frame, -2] / math.log(2) == pytest.approx(octave, abs=0.05)


@pytest.mark.corpora
def test_pitch_agrees_with_a_slow_search_on_real_speech(corpora_root: Path) -> None:
    octaves = []
    for waveform in real(corpora_root, 4):
        track = alone(FrontEnd(bins=4, pitch=True), waveform)
        for frame in range(10, len(track) - 10, 3):
            octave, strength = slow_pitch(waveform, frame)
            if strength > 0.6 and track[frame, -1] >= VOICED:
                octaves.append(abs(track[frame, -2] / math.log(2) - octave))
    assert len(octaves) > 50
    assert np.median(octaves) < 0.03
    assert np.mean(np.array(octaves) > 0.2) < 0.1


def test_functionals_are_what_their_names_say() -> None:
    generator = np.random.default_rng(0)
    values = generator.gamma(2.0, size=(3, 50, 4)).astype(np.float32)
    lengths = torch.tensor([50, 31, 1])
    summary = functionals(torch.from_numpy(values), lengths).reshape(3, len(STATISTICS), 4)
    for row, length in enumerate(lengths.tolist()):
        own = values[row, :length].astype(np.float64)
        steps = np.diff(own, axis=0) if length > 1 else np.zeros((1, 4))
        expected = {
            "mean": own.mean(axis=0),
            "std": own.std(axis=0),
            "skew": stats.skew(own, axis=0) if length > 1 else np.zeros(4),
            "p10": np.percentile(own, 10, axis=0),
            "p50": np.percentile(own, 50, axis=0),
            "p90": np.percentile(own, 90, axis=0),
            "range": np.ptp(own, axis=0),
            "slope": np.polyfit(np.linspace(0, 1, length), own, 1)[0] if length > 1 else np.zeros(4),
            "delta_mean": np.abs(steps).mean(axis=0),
            "delta_std": steps.std(axis=0),
        }
        assert tuple(expected) == STATISTICS
        for place, (name, value) in enumerate(expected.items()):
            np.testing.assert_allclose(summary[row, place], value, atol=2e-4, rtol=2e-4, err_msg=name)


def test_functionals_of_pitch_see_voiced_frames_only() -> None:
    track = torch.zeros(1, 8, 3)
    track[0, :, 0] = 3.0
    track[0, 2:5, 1] = torch.tensor([5.0, 5.2, 5.4])
    track[0, :, 2] = 0.1
    track[0, 2:5, 2] = 0.9
    summary = functionals(track, torch.tensor([8]), pitch=True)
    assert summary.shape == (1, 31)
    table = summary[0, :30].reshape(10, 3)
    assert table[STATISTICS.index("mean"), 1] == pytest.approx(5.2)
    assert table[STATISTICS.index("range"), 1] == pytest.approx(0.4)
    assert table[STATISTICS.index("delta_mean"), 1] == pytest.approx(0.2)
    assert table[STATISTICS.index("mean"), 2] == pytest.approx(0.4)
    assert summary[0, -1] == pytest.approx(3 / 8)
    assert functionals(torch.zeros(1, 8, 3), torch.tensor([8]), pitch=True).isfinite().all()


def test_half_precision_around_it_does_not_reach_inside() -> None:
    batch, lengths = batched(SYNTHETIC)
    expected, _ = FrontEnd()(batch, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = FrontEnd()(batch, lengths)
    torch.testing.assert_close(features, expected, atol=0, rtol=0)


def test_the_hash_names_the_description() -> None:
    assert FrontEnd().sha256 == FrontEnd(kind="logmel").sha256
    assert FrontEnd().sha256 != FrontEnd(bins=81).sha256
    assert len({FrontEnd(kind="mel", tail_frames=tail).sha256 for tail in (0, 1, 2)}) == 3
    assert FrontEnd(kind="fbank").sha256 != FrontEnd(kind="fbank", taper="hamming").sha256
    assert hash(FrontEnd()) == hash(FrontEnd())


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "mfcc"},
        {"high_hz": 9000},
        {"low_hz": 500, "high_hz": 400},
        {"window_seconds": 0},
        {"hop_seconds": 1e-6},
        {"kind": "waveform", "pitch": True},
        {"pitch": True, "hop_seconds": 0.0101},
        {"level_db": 3},
        {"kind": "fbank", "tail_frames": 2},
        {"pitch": True, "tail_frames": 2},
        {"bin": 80},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(FrontEnd, values)
