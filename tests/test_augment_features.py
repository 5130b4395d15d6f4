"""Changes of log-mel frames against the same changes of the waveform."""

import math

import pytest
import torch
from torch import Tensor

from affetto.augment import AugmentConfig, augment_waveforms, change_speed
from affetto.augment_features import augment_spectra
from affetto.errors import ConfigError
from affetto.features import FrontEnd, band_centres, band_places

FRONT_END = FrontEnd(kind="logmel", bins=64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def voice(pitch: float = 150.0, seconds: float = 1.5) -> Tensor:
    time = torch.arange(round(16_000 * seconds)) / 16_000
    harmonics = torch.stack([torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 30)])
    noise = 1e-3 * torch.randn(len(time), generator=generator(9))
    return 0.1 * harmonics.sum(0) * (1.1 + torch.sin(9 * time)) + noise


def features(waveform: Tensor) -> tuple[Tensor, Tensor]:
    return FRONT_END(waveform[None], torch.tensor([len(waveform)]))


def test_nothing_asked_is_nothing_done() -> None:
    values, lengths = features(voice())
    changed, kept = augment_spectra(values, lengths, AugmentConfig(), FRONT_END, generator())
    torch.testing.assert_close(changed, values)
    assert kept.tolist() == lengths.tolist()


def test_gain_is_that_of_the_waveform() -> None:
    values, lengths = features(voice())
    changed, _ = augment_spectra(values, lengths, AugmentConfig(gain_db=6), FRONT_END, generator())
    shift = changed - values
    assert float(shift.std()) < 1e-4
    decibels = float(shift.mean()) * 10 / math.log(10)
    assert 0.1 < abs(decibels) <= 6
    louder, _ = features(voice() * 10 ** (decibels / 20))
    torch.testing.assert_close(changed, louder, atol=1e-3, rtol=0)


def test_an_equaliser_is_close_to_that_of_the_waveform() -> None:
    config = AugmentConfig(equalise_db=6)
    values, lengths = features(voice())
    changed, _ = augment_spectra(values, lengths, config, FRONT_END, generator(3))
    own = generator(3)
    torch.rand(1, generator=own)  # the place of a stretch, which frames draw first
    waveform = voice()[None]
    expected, _ = FRONT_END(*augment_waveforms(waveform, torch.tensor([waveform.shape[1]]), config, own))
    level = (expected - changed).mean()  # the waveform keeps its power
    assert (expected - changed - level)[0, 4:-4].abs().mean() < 0.3
    assert (changed - values).std() > 0.5


def test_what_only_waveforms_can_have_is_refused() -> None:
    values, lengths = features(voice())
    for name in ("room", "telephone", "clip"):
        with pytest.raises(ConfigError, match="reads=waveforms"):
            augment_spectra(values, lengths, AugmentConfig(**{name: 0.5}), FRONT_END)


def test_speed_is_close_to_that_of_the_waveform() -> None:
    values, lengths = features(voice())
    for factor in (0.85, 1.2):
        config = AugmentConfig(speed=(factor, factor))
        changed, kept = augment_spectra(values, lengths, config, FRONT_END, generator())
        waveform = voice()
        faster, samples = change_speed(
            waveform[None], torch.tensor([len(waveform)]), torch.tensor([factor]), (factor, factor)
        )
        expected, frames = FRONT_END(faster, samples)
        assert abs(int(kept[0]) - int(frames[0])) <= 2
        size = min(values.shape[1], changed.shape[1], expected.shape[1]) - 4
        # Up to 4 kHz; above, the cubic interpolation of the waveform is no reference.
        bands = int((band_centres(FRONT_END.band_hz, 64, torch.device("cpu")) < 4000).sum())
        far = (values[:, 2:size, :bands] - expected[:, 2:size, :bands]).abs().mean()
        near = (changed[:, 2:size, :bands] - expected[:, 2:size, :bands]).abs().mean()
        assert float(near) < 0.6 * float(far)


def test_places_are_the_way_back_from_centres() -> None:
    centres = band_centres(FRONT_END.band_hz, 64, torch.device("cpu"))
    torch.testing.assert_close(
        band_places(centres, FRONT_END.band_hz, 64), torch.arange(64.0), atol=1e-4, rtol=0
    )


def test_noise_comes_at_its_ratio_and_to_some_only() -> None:
    values, lengths = features(voice())
    batch, counts = values.repeat(40, 1, 1), lengths.repeat(40)
    for colour in ("white", "pink"):
        config = AugmentConfig(noise_probability=0.5, noise_snr_db=(10, 10), noise=colour)
        changed, _ = augment_spectra(batch, counts, config, FRONT_END, generator())
        touched = (changed - batch).abs().amax((1, 2)) > 1e-3
        assert 10 < int(touched.sum()) < 30
        added = (changed.exp() - batch.exp())[touched].mean()
        ratio = 10 * math.log10(float(values.exp().mean() / added))
        assert abs(ratio - 10) < 0.5
    torch.testing.assert_close(batch, values.repeat(40, 1, 1))  # what came in is as it was


def test_a_crop_is_a_stretch_of_the_utterance() -> None:
    values, lengths = features(voice())
    batch = torch.cat([values, values])
    batch[1, 60:] = 0
    changed, kept = augment_spectra(
        batch, torch.tensor([int(lengths[0]), 60]), AugmentConfig(), FRONT_END, generator(), crop=80
    )
    assert kept.tolist() == [80, 60]
    assert changed.shape == (2, 80, 64)
    torch.testing.assert_close(changed[1, :60], batch[1, :60])
    assert not changed[1, 60:].any()
    starts = [
        start
        for start in range(int(lengths[0]) - 79)
        if torch.allclose(changed[0], batch[0, start : start + 80])
    ]
    assert starts
