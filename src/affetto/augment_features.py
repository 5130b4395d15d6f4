"""Augmentation of log-mel frames, so that they can be computed once and kept.

The same :class:`~affetto.augment.AugmentConfig` that changes waveforms: speed, equaliser, noise, gain, in
this order. On frames they are an approximation, and many times cheaper. Rooms, telephones and clipping need
waveforms.
"""

import math

import torch
from torch import Tensor

from affetto.augment import AugmentConfig, equaliser_db, uniform
from affetto.errors import ConfigError
from affetto.features import FrontEnd, band_centres, band_places

_STRIP = 1 << 17  # numbers drawn for a batch, from which each utterance takes a stretch


def augment_spectra(
    features: Tensor,
    lengths: Tensor,
    config: AugmentConfig,
    front_end: FrontEnd,
    generator: torch.Generator | None = None,
    crop: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Changes speed, cuts out a stretch, equalises, adds noise and changes gain, as the settings ask for it.

    Speed moves frames in time and bands in frequency, by linear interpolation. Noise adds up in power: white
    is flat over bands of unit area, pink falls with frequency. Features ``(B, T, F)`` are log-mel of a front
    end without deltas, zero past the end of each; ``crop`` are the frames, at a random place, that are kept
    of each, None for all. Returns new features ``(B, T', F)`` and lengths ``(B,)``.

    Raises:
        ConfigError: for a room, a telephone or clipping.
    """
    if config.room or config.telephone or config.clip:
        raise ConfigError(
            "augment.room, telephone and clip change waveforms, and this network reads log-mel frames; set "
            "them to 0, or finetune with reads=waveforms"
        )
    slowest = 1.0 if config.speed is None else config.speed[0]
    width = max(1, round(features.shape[1] / slowest))  # for whatever is drawn: nothing is read back
    width = width if crop is None else min(width, crop)
    factors = torch.ones_like(lengths, dtype=torch.float32)
    if config.speed is not None:
        factors = uniform(lengths, *config.speed, generator)
    faster = (lengths / factors).round().long().clamp_min(1)
    kept = faster.clamp_max(width)
    starts = ((faster - kept + 1) * uniform(lengths, 0.0, 1.0, generator)).long()
    if config.speed is not None or crop is not None:
        features = _resample(features, lengths, starts, width, factors)
    if config.speed is not None:
        features = features @ _warp(front_end, factors)
    if config.equalise_db:
        centres = band_centres(front_end.band_hz, front_end.bins, features.device)
        gains = equaliser_db(centres, lengths, config.equalise_db, generator)
        features = features + (math.log(10) / 10) * gains[:, None, :]
    if config.noise_probability:
        features = _add_noise(features, kept, config, generator)
    if config.gain_db:
        gain_db = uniform(lengths, -config.gain_db, config.gain_db, generator)
        features = features + (math.log(10) / 10) * gain_db[:, None, None]
    outside = torch.arange(features.shape[1], device=features.device) >= kept[:, None]
    return features.masked_fill(outside[:, :, None], 0.0), kept


def _resample(features: Tensor, lengths: Tensor, starts: Tensor, width: int, factors: Tensor) -> Tensor:
    steps = torch.arange(width, device=features.device)
    places = (starts[:, None] + steps) * factors[:, None]
    last = (lengths - 1).clamp_min(0)[:, None]
    before = torch.minimum(places.long(), last)
    after = torch.minimum(before + 1, last)
    rows = torch.arange(len(features), device=features.device)[:, None]
    share = (places - before).clamp(0, 1)[:, :, None].to(features.dtype)
    return torch.lerp(features[rows, before], features[rows, after], share)


def _warp(front_end: FrontEnd, factors: Tensor) -> Tensor:
    """Returns for each speed the matrix ``(B, F, F)`` that takes each band from where its sound came from."""
    bins, limits = front_end.bins, front_end.band_hz
    sources = band_centres(limits, bins, factors.device) / factors[:, None]
    places = band_places(sources, limits, bins).clamp(0, bins - 1)
    distances = places[:, None, :] - torch.arange(bins, device=factors.device)[:, None]
    return (1.0 - distances.abs()).clamp_min(0.0)


def _add_noise(
    features: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator | None
) -> Tensor:
    count, frames, bins = features.shape
    device = features.device
    inside = torch.arange(frames, device=device) < lengths[:, None]
    snr_db = uniform(lengths, *config.noise_snr_db, generator)
    power = features.exp()
    level = (power.mean(2) * inside).sum(1) / lengths * 10 ** (-snr_db / 10)
    share = {"white": 0.0, "pink": 1.0, "both": 0.5}[config.noise]
    pink = uniform(lengths, 0.0, 1.0, generator) < share
    falling = 1 / torch.arange(1, bins + 1, device=device)
    bands = torch.where(pink[:, None], falling / falling.mean(), 1.0)
    # The power of noise in a band scatters from frame to frame; most of it is within a factor of 2.
    strip = 0.25 + 1.5 * torch.rand(_STRIP + frames * bins, generator=generator, device=device)
    places = uniform(lengths, 0.0, _STRIP, generator).long()
    noise = strip.unfold(0, frames * bins, 1)[places].view(count, frames, bins)
    # Every utterance is worked on, chosen or not, so that nothing is read back: in place, to be cheap.
    noisy = noise.mul_(level[:, None, None] * bands[:, None, :]).add_(power).clamp_min_(1e-10).log_()
    chosen = uniform(lengths, 0.0, 1.0, generator) < config.noise_probability
    return torch.where(chosen[:, None, None], noisy, features)
