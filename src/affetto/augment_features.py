"""Augmentation of log-mel frames, so that they can be computed once and kept.

The same :class:`~affetto.augment.AugmentConfig` that changes waveforms: speed, noise, gain, in this order.
On frames they are an approximation, and many times cheaper.
"""

import math

import numpy as np
import torch
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.features import FrontEnd, band_centres, band_places


def augment_spectra(
    features: Tensor,
    lengths: Tensor,
    config: AugmentConfig,
    front_end: FrontEnd,
    generator: torch.Generator,
    crop: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Changes speed, cuts out a stretch, adds noise and changes gain, as far as the settings ask for it.

    Speed moves frames in time and bands in frequency, by linear interpolation. Noise adds up in power: white
    is flat over bands of unit area, pink falls with frequency. Features ``(B, T, F)`` are log-mel of a front
    end without deltas, zero past the end of each; ``crop`` are the frames, at a random place, that are kept
    of each, None for all. Returns new features ``(B, T', F)`` and lengths ``(B,)``.
    """
    given, count, device = features, len(lengths), features.device

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).to(device)

    factors = uniform(*config.speed) if config.speed is not None else torch.ones(count, device=device)
    faster = (lengths / factors).round().long().clamp_min(1)
    kept = faster if crop is None else faster.clamp_max(crop)
    starts = ((faster - kept + 1) * uniform(0.0, 1.0)).long()
    if config.speed is not None or crop is not None:
        features = _resample(features, lengths, starts, kept, factors)
    if config.speed is not None:
        features = features @ _warp(front_end, factors)
    if config.noise_probability:
        chosen = torch.rand(count, generator=generator).to(device) < config.noise_probability
        snr_db = uniform(*config.noise_snr_db)[chosen]
        features = features.clone() if features is given else features
        features[chosen] = _add_noise(features[chosen], kept[chosen], snr_db, config, generator)
    if config.gain_db:
        features = features + (math.log(10) / 10) * uniform(-config.gain_db, config.gain_db)[:, None, None]
    outside = torch.arange(features.shape[1], device=device) >= kept[:, None]
    return features.masked_fill(outside[:, :, None], 0.0), kept


def _resample(features: Tensor, lengths: Tensor, starts: Tensor, kept: Tensor, factors: Tensor) -> Tensor:
    steps = torch.arange(int(kept.max()), device=features.device)
    places = (starts[:, None] + steps) * factors[:, None]
    last = (lengths - 1).clamp_min(0)[:, None]
    before = torch.minimum(places.long(), last)
    after = torch.minimum(before + 1, last)
    rows = torch.arange(len(features), device=features.device)[:, None]
    share = (places - before).clamp(0, 1)[:, :, None].to(features.dtype)
    return torch.lerp(features[rows, before], features[rows, after], share)


def _warp(front_end: FrontEnd, factors: Tensor) -> Tensor:
    """Returns for each speed the matrix ``(B, F, F)`` that takes each band from where its sound came from."""
    bins = front_end.bins
    sources = band_centres(front_end.band_hz, bins)[None] / factors.cpu().numpy()[:, None]
    places = np.clip(band_places(sources, front_end.band_hz, bins), 0, bins - 1)
    distances = np.abs(places[:, None, :] - np.arange(bins)[None, :, None])
    return torch.from_numpy(np.maximum(0.0, 1.0 - distances)).to(factors)


def _add_noise(
    features: Tensor, lengths: Tensor, snr_db: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    count, frames, bins = features.shape
    inside = (torch.arange(frames, device=features.device) < lengths[:, None])[:, :, None]
    power = features.exp()
    level = (power * inside).mean(2).sum(1) / lengths * 10 ** (-snr_db / 10)
    pink = torch.rand(count, generator=generator) < {"white": 0.0, "pink": 1.0, "both": 0.5}[config.noise]
    falling = 1 / torch.arange(1, bins + 1)
    bands = torch.where(pink[:, None], falling / falling.mean(), 1.0).to(features.device)
    # The power of noise in a band scatters from frame to frame; most of it is within a factor of 2.
    scatter = 0.25 + 1.5 * torch.rand(count, frames, bins, generator=generator).to(features.device)
    return (power + level[:, None, None] * bands[:, None, :] * scatter).clamp_min(1e-10).log()
