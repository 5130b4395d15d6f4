"""Augmentation of waveforms and spectrograms in training.

Everything is drawn for a whole batch at once, on its device, from the generator that is passed in, or from
torch's own state there. What is switched off costs nothing and draws nothing. No result is read back: widths
follow from shapes and settings, never from what was drawn.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from affetto.config import Settings

_STRIP = 1 << 17  # samples of noise drawn for a batch, from which each utterance takes a stretch


class AugmentConfig(Settings):
    """Kinds and amounts of augmentation. The default does nothing.

    Attributes:
        gain_db: an utterance is made up to this much louder or softer.
        noise_probability: share of utterances that noise is added to.
        noise_snr_db: lowest and highest ratio of speech to noise.
        noise: ``"white"``, ``"pink"`` (power falls with 1 / frequency, as that of speech roughly does), or
            ``"both"``, one or the other for each utterance.
        speed: lowest and highest factor of playing faster; None for the speed as it is. Pitch, formants and
            tempo change together, as on a tape: 1.1 is shorter by a tenth and 1.65 semitones higher.
        time_masks: how many stretches of frames to hide.
        time_mask_frames: longest such stretch.
        time_mask_share: the largest share of an utterance that one stretch may hide.
        frequency_masks: how many bands to hide.
        frequency_mask_bins: widest such band.
        mixup: both parameters of the Beta distribution that mixing ratios come from; 0 for no mixing.
    """

    gain_db: float = Field(0.0, ge=0)
    noise_probability: float = Field(0.0, ge=0, le=1)
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    noise: Literal["white", "pink", "both"] = "both"
    speed: tuple[float, float] | None = None
    time_masks: int = Field(0, ge=0)
    time_mask_frames: int = Field(40, ge=1)
    time_mask_share: float = Field(0.2, gt=0, le=1)
    frequency_masks: int = Field(0, ge=0)
    frequency_mask_bins: int = Field(10, ge=1)
    mixup: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "AugmentConfig":
        if self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ValueError(f"noise_snr_db {self.noise_snr_db}: the lower end comes first")
        if self.speed is not None and not 0.25 <= self.speed[0] <= self.speed[1] <= 4:
            raise ValueError(f"speed {self.speed}: the lower end comes first, both between 0.25 and 4")
        return self


def augment_waveforms(
    waveforms: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Changes speed, adds noise and changes gain, in this order, as far as the settings ask for it.

    Waveforms ``(B, S)`` are zero past their ends, of ``lengths (B,)`` samples; the generator lives on their
    device. Returns new waveforms ``(B, S')`` and lengths.
    """
    if config.speed is not None:
        factors = uniform(lengths, *config.speed, generator)
        waveforms, lengths = change_speed(waveforms, lengths, factors, config.speed)
    if config.noise_probability:
        snr_db = uniform(lengths, *config.noise_snr_db, generator)
        left_out = uniform(lengths, 0.0, 1.0, generator) >= config.noise_probability
        snr_db = snr_db.masked_fill(left_out, math.inf)
        waveforms = add_noise(waveforms, lengths, snr_db, config.noise, generator)
    if config.gain_db:
        gain_db = uniform(lengths, -config.gain_db, config.gain_db, generator)
        waveforms = waveforms * 10 ** (gain_db / 20)[:, None]
    return waveforms, lengths


def uniform(lengths: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Draws a number an utterance, ``(B,)``, on the device of the lengths."""
    return low + (high - low) * torch.rand(len(lengths), generator=generator, device=lengths.device)


def change_speed(
    waveforms: Tensor, lengths: Tensor, factors: Tensor, limits: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Plays each waveform faster by its own factor, pitch and tempo together: 2 is half as long.

    Cubic interpolation (Catmull-Rom) between samples, cheap, and flat to 1 dB up to 4.5 kHz. A factor above 1
    aliases what it lifts past half the sampling rate; speech has little of it. All factors are within
    ``limits``. Returns waveforms ``(B, round(S / lowest))``, zero past their ends, and lengths ``(B,)``,
    ``round(length / factor)`` but at least 1.
    """
    count, size = waveforms.shape
    width = max(1, round(size / limits[0]))
    shorter = torch.where(lengths > 0, (lengths / factors).round().long().clamp(1, width), 0)
    flat = torch.nn.functional.pad(waveforms, (1, max(2, math.ceil(width * limits[1]) - size + 3)))
    # Whole numbers, whose last 24 bits are the fraction: at a minute, a place takes 20 bits more.
    begins = flat.shape[1] * torch.arange(count, device=flat.device)[:, None] << 24
    grid, steps = torch.arange(width, device=flat.device), (factors * 2**24).round().long()[:, None]
    flat = flat.flatten()
    faster = waveforms.new_empty(count, width)
    # A few rows at a time stay in a processor's cache: twice as fast as the batch at once.
    together = count if flat.is_cuda else max(1, _STRIP // width)
    for first in range(0, count, together):
        rows = slice(first, first + together)
        places = torch.addcmul(begins[rows], grid, steps[rows]).flatten()
        fraction, index = (places & 2**24 - 1).to(flat.dtype).mul_(2**-24), places >> 24
        before, here, after, beyond = (flat[shift:].index_select(0, index) for shift in range(4))
        cubic = fraction * (3 * (here - after) + beyond - before) + 2 * before - 5 * here + 4 * after - beyond
        torch.add(here, fraction * (after - before + fraction * cubic), alpha=0.5, out=faster[rows].view(-1))
    return faster.masked_fill_(grid >= shorter[:, None], 0.0), shorter


def add_noise(
    waveforms: Tensor, lengths: Tensor, snr_db: Tensor, color: str, generator: torch.Generator | None = None
) -> Tensor:
    """Adds white or pink noise, or either ("both"), at a ratio of ``snr_db (B,)``, infinity for none.

    The ratio of speech to noise is measured over each waveform's own samples; a silent one stays silent.
    """
    count, width = waveforms.shape
    drawn: dict[str, Any] = {"generator": generator, "device": waveforms.device}
    size = max(_STRIP, 1 << (width - 1).bit_length())
    white = torch.randn(size, **drawn)
    offsets = torch.randint(size, (count,), **drawn)
    strips = [white]
    if color != "white":
        spectrum = torch.fft.rfft(white)
        spectrum /= torch.arange(len(spectrum), device=white.device).clamp_min(1).sqrt()
        pink = torch.fft.irfft(spectrum, n=size)
        strips = [pink] if color == "pink" else [white, pink / pink.std()]
    which = torch.randint(len(strips), (count,), **drawn)
    around = torch.stack([torch.cat([strip, strip[:width]]) for strip in strips])
    noise = around.unfold(1, width, 1)[which, offsets]
    outside = torch.arange(width, device=waveforms.device) >= lengths[:, None]
    noise = noise.masked_fill_(outside, 0.0)
    powers = waveforms.square().sum(dim=1) / noise.square().sum(dim=1).clamp_min(1e-20)
    return waveforms + noise * (powers.sqrt() * 10 ** (-snr_db / 20))[:, None]


def spec_augment(
    features: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Replaces stretches of frames and bands of columns by the utterance's own mean.

    Widths are uniform from 0 to the largest allowed, places uniform where the mask fits (Park et al.,
    "SpecAugment", 2019, section 2, without time warping; there masked values are 0, the mean of features
    that were normalised). Features ``(B, T, F)`` are zero past the end of each, at ``lengths (B,)``.
    """
    if not (config.time_masks or config.frequency_masks):
        return features
    _, frames, columns = features.shape
    device = features.device
    limits = (lengths * config.time_mask_share).long().clamp_max(config.time_mask_frames)
    hidden_frames = _masks(lengths, limits, config.time_masks, frames, generator)
    widths = torch.full_like(lengths, columns)
    widest = torch.full_like(lengths, min(config.frequency_mask_bins, columns))
    hidden_columns = _masks(widths, widest, config.frequency_masks, columns, generator)
    inside = torch.arange(frames, device=device) < lengths[:, None]
    hidden = (hidden_frames[:, :, None] | hidden_columns[:, None, :]) & inside[:, :, None]
    mean = torch.where(inside[:, :, None], features, 0.0).sum(dim=1) / lengths.clamp_min(1)[:, None]
    return torch.where(hidden, mean[:, None, :], features)


def mixup(
    waveforms: Tensor,
    lengths: Tensor,
    targets: Tensor,
    alpha: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixes each waveform with another of the batch, and their targets in the same ratio.

    The ratio comes from Beta(alpha, alpha) and is at least one half, so that an utterance keeps its length
    and the larger share; the other is cut to that length (Zhang et al., "mixup", 2018, equation 1). Takes
    waveforms ``(B, S)``, or frames ``(B, T, F)``, zero past the end of each, and targets ``(B, K)``.
    """
    if not alpha:
        return waveforms, lengths, targets
    drawn, turn, order = (uniform(lengths, 0.0, 1.0, generator) for _ in range(3))
    # Larger of x and 1 - x, with x from the Beta (Devroye, "Random variate generation in one line", 1996).
    odds = (drawn ** (-1 / alpha) - 1) * (2 * math.pi * turn).cos().square()
    share = (0.5 + 0.5 / (1 + 1 / odds).sqrt()).to(waveforms.dtype)[:, None]
    other = order.argsort()
    each = share if waveforms.ndim == 2 else share[:, :, None]
    mixed = each * waveforms + (1 - each) * waveforms[other]
    outside = torch.arange(waveforms.shape[1], device=lengths.device) >= lengths[:, None]
    mixed = mixed.masked_fill_(outside if waveforms.ndim == 2 else outside[:, :, None], 0.0)
    return mixed, lengths, share * targets + (1 - share) * targets[other]


def _masks(
    sizes: Tensor, limits: Tensor, number: int, width: int, generator: torch.Generator | None
) -> Tensor:
    """Draws ``number`` masks a row, at most ``limits`` wide and inside ``sizes``: ``(B, width)`` bool."""
    drawn = torch.rand(2, len(sizes), number, generator=generator, device=sizes.device)
    widths = (drawn[0] * (limits[:, None] + 1)).long()
    starts = (drawn[1] * (sizes[:, None] - widths + 1)).long()
    places = torch.arange(width, device=sizes.device)
    return ((places >= starts[:, :, None]) & (places < (starts + widths)[:, :, None])).any(dim=1)
