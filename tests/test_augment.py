"""What augmentation promises in decibels, samples and frames, it keeps; switched off, it changes nothing."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from affetto.augment import (
    AugmentConfig,
    add_noise,
    augment_waveforms,
    change_speed,
    equaliser_db,
    mixup,
    spec_augment,
)
from affetto.config import build
from affetto.errors import ConfigError

LENGTHS = torch.tensor([16_000, 9000, 12_345, 0])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech() -> Tensor:
    waveforms = 0.1 * torch.randn(4, 16_000, generator=random(9))
    return waveforms * (torch.arange(16_000) < LENGTHS[:, None])


def power(waveforms: Tensor) -> Tensor:
    return waveforms.double().square().sum(dim=1) / LENGTHS.clamp_min(1)


def test_switched_off_nothing_changes_and_nothing_is_drawn() -> None:
    generator, waveforms = random(), speech()
    same, lengths = augment_waveforms(waveforms, LENGTHS, AugmentConfig(), generator)
    assert same is waveforms
    assert lengths is LENGTHS
    features = torch.randn(4, 30, 8)
    assert spec_augment(features, torch.tensor([30, 20, 10, 1]), AugmentConfig(), generator) is features
    targets = torch.eye(4)
    mixed, lengths, shares = mixup(waveforms, LENGTHS, targets, 0.0, generator)
    assert mixed is waveforms
    assert lengths is LENGTHS
    assert shares is targets
    assert torch.equal(generator.get_state(), random().get_state())


CHANNEL = {"equalise_db": 6, "room": 0.7, "telephone": 0.7, "clip": 0.7}
EVERYTHING = AugmentConfig(
    gain_db=6,
    noise_probability=0.7,
    speed=(0.9, 1.1),
    time_masks=2,
    frequency_masks=2,
    time_mask_frames=8,
    **CHANNEL,
)


def test_the_generator_decides_everything() -> None:
    first, lengths = augment_waveforms(speech(), LENGTHS, EVERYTHING, random(1))
    again, lengths_again = augment_waveforms(speech(), LENGTHS, EVERYTHING, random(1))
    other, _ = augment_waveforms(speech(), LENGTHS, EVERYTHING, random(2))
    assert torch.equal(first, again)
    assert torch.equal(lengths, lengths_again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert first.isfinite().all()
    outside = torch.arange(first.shape[1]) >= lengths[:, None]
    assert not first[outside].any()


@pytest.mark.parametrize("color", ["white", "pink", "both"])
def test_noise_has_the_ratio_that_was_asked_for(color: str) -> None:
    waveforms = speech()
    noisy = add_noise(waveforms, LENGTHS, torch.tensor([0.0, 10.0, 20.0, 10.0]), color, random())
    ratios = 10 * torch.log10(power(waveforms)[:3] / power(noisy - waveforms)[:3])
    torch.testing.assert_close(ratios, torch.tensor([0.0, 10.0, 20.0]).double(), atol=0.01, rtol=0)
    assert not noisy[3].any()
    assert not noisy[1, 9000:].any()


def test_white_noise_is_flat_and_pink_noise_falls_by_3_db_an_octave() -> None:
    ones = torch.ones(64, 16_000)
    lengths, snr_db = torch.full((64,), 16_000), torch.zeros(64)
    for color, slope in (("white", 0.0), ("pink", -3.01)):
        noise = add_noise(ones, lengths, snr_db, color, random()) - ones
        spectrum = torch.fft.rfft(noise).abs().square().mean(dim=0)
        octaves = torch.stack([spectrum[low : 2 * low].mean() for low in (125, 250, 500, 1000, 2000, 4000)])
        falls = np.diff(10 * torch.log10(octaves).numpy())
        np.testing.assert_allclose(falls, slope, atol=0.7)


@pytest.mark.parametrize("kind", CHANNEL)
def test_a_channel_leaves_power_padding_and_silence(kind: str) -> None:
    waveforms = speech()
    changed, lengths = augment_waveforms(waveforms, LENGTHS, AugmentConfig(**{kind: 1.0}), random())
    assert torch.equal(lengths, LENGTHS)
    assert all(not torch.equal(row, before) for row, before in zip(changed[:3], waveforms, strict=False))
    torch.testing.assert_close(power(changed), power(waveforms), rtol=1e-4, atol=0)
    outside = torch.arange(16_000) >= LENGTHS[:, None]
    assert not changed[outside].any()


def test_the_equaliser_is_smooth_and_has_the_deviation_that_was_asked_for() -> None:
    hertz = torch.tensor([20.0, 60.0, 60 * (8000 / 60) ** 0.1, 60 * (8000 / 60) ** 0.2, 8000.0])
    gains = equaliser_db(hertz, torch.zeros(5000), 4.0, random())
    assert gains.mean(0).abs().max() < 0.3
    torch.testing.assert_close(gains[:, [1, 3, 4]].std(0), torch.full((3,), 4.0), rtol=0.05, atol=0)
    torch.testing.assert_close(gains[:, 0], gains[:, 1])
    torch.testing.assert_close(gains[:, 2], (gains[:, 1] + gains[:, 3]) / 2)


def test_a_room_fades_after_the_direct_sound() -> None:
    clicks, lengths = torch.zeros(500, 16_000), torch.full((500,), 16_000)
    clicks[:, 4000] = 1.0
    heard, _ = augment_waveforms(clicks, lengths, AugmentConfig(room=0.4), random())
    heard = heard / heard[:, 4000:4001]
    echoes = heard[:, 4001:].square().sum(1)
    rooms = echoes > 1e-6
    assert rooms.float().mean() == pytest.approx(0.4, abs=0.07)
    ratios = 10 * echoes[rooms].log10()
    assert -12.01 < ratios.min() < -11
    assert -1 < ratios.max() < 0.01
    assert heard[:, :4000].abs().max() < 1e-5
    early, late = (heard[rooms, part].square().mean(1) for part in (slice(4100, 4900), slice(9700, 10_500)))
    falls = 10 * (early / late).log10() / 0.35  # in dB a second
    assert falls.min() > 60 / 0.85
    assert falls.max() < 60 / 0.14


def test_a_telephone_carries_its_band_in_few_steps() -> None:
    noise, lengths = torch.randn(300, 16_000, generator=random(5)), torch.full((300,), 16_000)
    heard, _ = augment_waveforms(noise, lengths, AugmentConfig(telephone=1.0), random())
    spectra = torch.fft.rfft(heard).abs().square()
    inside = spectra[:, 500:2800].mean(1)
    for part in (slice(10, 80), slice(4500, 7900)):
        assert 10 * (spectra[:, part].mean(1) / inside).log10().max() < -18
    few = torch.tensor([len(row.unique()) <= 255 for row in heard])
    assert few.float().mean() == pytest.approx(2 / 3, abs=0.1)
    plain, _ = augment_waveforms(noise, lengths, AugmentConfig(telephone=1e-9), random())
    torch.testing.assert_close(plain, noise, rtol=0, atol=1e-4)


def test_clipping_cuts_peaks_of_the_asked_share() -> None:
    noise, lengths = torch.randn(500, 4000, generator=random(5)), torch.full((500,), 4000)
    clipped, _ = augment_waveforms(noise, lengths, AugmentConfig(clip=0.3), random())
    cut = (clipped.abs() > 0.999 * clipped.abs().amax(1, keepdim=True)).sum(1) > 2
    assert cut.float().mean() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(clipped[~cut], noise[~cut])
    crest = 20 * (clipped.abs().amax(1) / noise.abs().amax(1)).log10()[cut]
    assert crest.max() < 0


def test_noise_reaches_the_asked_share_of_utterances() -> None:
    waveforms, lengths = torch.ones(2000, 50), torch.full((2000,), 50)
    config = AugmentConfig(noise_probability=0.3, noise_snr_db=(10, 10))
    noisy, _ = augment_waveforms(waveforms, lengths, config, random())
    assert (noisy != waveforms).any(dim=1).float().mean() == pytest.approx(0.3, abs=0.04)


def test_gain_stays_within_its_decibels() -> None:
    waveforms, lengths = torch.ones(2000, 4), torch.full((2000,), 4)
    louder, _ = augment_waveforms(waveforms, lengths, AugmentConfig(gain_db=6), random())
    gains = 20 * torch.log10(louder[:, 0])
    assert -6 <= gains.min() < -5.9
    assert 5.9 < gains.max() <= 6.0001
    assert gains.mean().abs() < 0.3


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_speed_changes_length_and_pitch_together(factor: float) -> None:
    times = torch.arange(32_000) / 16_000
    tone = torch.sin(2 * math.pi * 300 * times)[None]
    faster, lengths = change_speed(tone, torch.tensor([32_000]), torch.tensor([factor]), (factor, factor))
    assert lengths.tolist() == [round(32_000 / factor)]
    assert faster.shape == (1, round(32_000 / factor))
    expected = torch.sin(2 * math.pi * 300 * factor * torch.arange(faster.shape[1]) / 16_000)
    torch.testing.assert_close(faster[0, 4:-4], expected[4:-4], atol=2e-3, rtol=0)


def test_each_row_has_its_own_speed() -> None:
    faster, lengths = change_speed(speech(), LENGTHS, torch.tensor([2.0, 0.5, 1.0, 1.5]), (0.5, 2.0))
    assert lengths.tolist() == [8000, 18_000, 12_345, 0]
    assert faster.shape == (4, 32_000)  # for whatever may be drawn
    assert not faster[0, 8000:].any()
    torch.testing.assert_close(faster[2, :12_345], speech()[2, :12_345], atol=0, rtol=0)
    torch.testing.assert_close(faster[0, :7999], speech()[0, 0:15_998:2], atol=0, rtol=0)


def runs(hidden: Tensor) -> int:
    """Longest run of True."""
    text = "".join("x" if value else " " for value in hidden.tolist())
    return max(map(len, text.split()), default=0)


def test_masks_have_the_widths_that_were_asked_for() -> None:
    features = torch.randn(400, 200, 40, generator=random(3))
    lengths = torch.full((400,), 200)
    lengths[:100] = 50
    features[:100, 50:] = 0
    config = AugmentConfig(time_masks=1, time_mask_frames=30, time_mask_share=0.2)
    masked = spec_augment(features, lengths, config, random())
    hidden = (masked != features).all(dim=2)
    widths = hidden.sum(dim=1)
    assert all(runs(row) == int(width) for row, width in zip(hidden, widths, strict=True))
    assert widths[:100].max() == 10  # a fifth of 50 frames
    assert widths[100:].max() == 30
    assert widths.min() == 0
    assert not masked[:100, 50:].any()

    config = AugmentConfig(frequency_masks=1, frequency_mask_bins=8)
    masked = spec_augment(features, lengths, config, random())
    hidden = (masked != features)[:, :50].all(dim=1)
    widths = hidden.sum(dim=1)
    assert all(runs(row) == int(width) for row, width in zip(hidden, widths, strict=True))
    assert set(widths.tolist()) == set(range(9))


def test_what_is_hidden_shows_the_mean() -> None:
    features = torch.randn(1, 60, 5, generator=random(3))
    features[:, 40:] = 0
    config = AugmentConfig(time_masks=3, time_mask_frames=5, frequency_masks=1, frequency_mask_bins=2)
    masked = spec_augment(features, torch.tensor([40]), config, random(1))
    changed = masked != features
    assert changed.any()
    mean = features[0, :40].mean(dim=0).expand(60, 5)
    torch.testing.assert_close(masked[0][changed[0]], mean[changed[0]])


def test_masks_fit_into_the_shortest_utterance() -> None:
    features = torch.randn(3, 2, 3)
    config = AugmentConfig(time_masks=4, frequency_masks=4, frequency_mask_bins=50, time_mask_share=1.0)
    assert spec_augment(features, torch.tensor([2, 1, 0]), config, random()).shape == (3, 2, 3)


def test_mixup_mixes_waveforms_and_targets_in_one_ratio() -> None:
    waveforms = torch.diag(torch.ones(4)).repeat_interleave(2, dim=1)
    lengths = torch.tensor([8, 8, 8, 8])
    mixed, same, targets = mixup(waveforms, lengths, torch.eye(4), 0.4, random())
    assert torch.equal(same, lengths)
    torch.testing.assert_close(mixed[:, ::2], targets)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert (targets.diagonal() >= 0.5).all()
    assert (targets.diagonal() < 1).any()


def test_mixup_keeps_the_length_of_the_louder() -> None:
    waveforms, targets = speech(), torch.eye(4)
    mixed, lengths, _ = mixup(waveforms, LENGTHS, targets, 1.0, random())
    outside = torch.arange(16_000) >= lengths[:, None]
    assert not mixed[outside].any()
    assert not torch.equal(mixed, waveforms)


@pytest.mark.parametrize(
    "values",
    [
        {"noise_probability": 1.5},
        {"noise_snr_db": (20, 5)},
        {"speed": (1.1, 0.9)},
        {"speed": (0.0, 1.0)},
        {"noise": "brown"},
        {"room": 2},
        {"equalise_db": -1},
        {"gain": 3},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(AugmentConfig, values)
