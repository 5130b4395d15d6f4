"""Augmentation of waveforms and spectrograms in training.

Everything is drawn for a whole batch at once, on its device, from the generator that is passed in, or from
torch's own. What is switched off draws nothing. Nothing is read back: widths follow from shapes and settings.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from affetto.config import Settings

_RATE = 16_000
_STRIP = 1 << 17  # samples of noise drawn for a batch, from which each utterance takes a stretch
_ECHO = 8000  # samples after which a room is silent
_GAINS = 6  # frequencies at which the equaliser draws a gain, from 60 Hz to 8 kHz in equal ratios


class AugmentConfig(Settings):
    """Kinds and amounts of augmentation. The default does nothing."""

    gain_db: float = Field(0.0, ge=0)  # by so much an utterance is made louder or softer, at most
    equalise_db: float = Field(0.0, ge=0, le=40)  # deviation of a random equaliser's gains, smooth over Hz
    # Share of utterances that are put into a room: noise that fades by 60 dB within 0.15 to 0.8 s, in all 0
    # to 12 dB below the direct sound.
    room: float = Field(0.0, ge=0, le=1)
    # Share that loses what is below 150 to 350 Hz and above 3 to 3.7 kHz; two of three also go through the 8
    # bits of a mu-law codec.
    telephone: float = Field(0.0, ge=0, le=1)
    clip: float = Field(0.0, ge=0, le=1)  # share that is clipped, 3 to 15 dB below its peak
    noise_probability: float = Field(0.0, ge=0, le=1)  # share that noise is added to
    noise_snr_db: tuple[float, float] = (5.0, 20.0)  # lowest and highest ratio of speech to noise
    # Pink noise falls in power with 1 / frequency, as speech roughly does; "both": either for each utterance.
    noise: Literal["white", "pink", "both"] = "both"
    # Lowest and highest factor of playing faster; None for the speed as it is. Pitch, formants and tempo
    # change together, as on a tape: 1.1 is shorter by a tenth and 1.65 semitones higher.
    speed: tuple[float, float] | None = None
    time_masks: int = Field(0, ge=0)  # stretches of frames to hide
    time_mask_frames: int = Field(40, ge=1)  # of the longest
    time_mask_share: float = Field(0.2, gt=0, le=1)  # of an utterance that one stretch may hide, at most
    frequency_masks: int = Field(0, ge=0)  # bands to hide
    frequency_mask_bins: int = Field(10, ge=1)  # of the widest
    mixup: float = Field(0.0, ge=0)  # both parameters of the Beta distribution of mixing ratios; 0: none

    @model_validator(mode="after")
    def _fits(self) -> "AugmentConfig":
        if self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ValueError(f"noise_snr_db {self.noise_snr_db}: the lower end comes first")
        if self.speed is not None and not 0.25 <= self.speed[0] <= self.speed[1] <= 4:
            raise ValueError(f"speed {self.speed}: the lower end comes first, both between 0.25 and 4")
        return self

    @property
    def channel(self) -> bool:
        """Whether frequencies change, which takes a transform of the whole waveform."""
        return bool(self.equalise_db or self.room or self.telephone)

    @property
    def sound(self) -> bool:
        """Whether waveforms change."""
        return bool(self.channel or self.clip or self.noise_probability or self.gain_db or self.speed)


def augment_waveforms(
    waveforms: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Changes speed, equaliser, room, telephone, noise, clipping and gain, in this order, where asked for.

    An utterance has the power that it had before, but for noise that is added and for the gain. Waveforms
    ``(B, S)`` are zero past their ends, of ``lengths (B,)`` samples; the generator lives on their device.
    Returns new waveforms ``(B, S')`` and lengths.
    """
    if config.speed is not None:
        factors = uniform(lengths, *config.speed, generator)
        waveforms, lengths = change_speed(waveforms, lengths, factors, config.speed)
    if config.channel:
        waveforms = change_channel(waveforms, lengths, config, generator)
    if config.noise_probability:
        snr_db = uniform(lengths, *config.noise_snr_db, generator)
        left_out = uniform(lengths, 0.0, 1.0, generator) >= config.noise_probability
        snr_db = snr_db.masked_fill(left_out, math.inf)
        waveforms = add_noise(waveforms, lengths, snr_db, config.noise, generator)
    if config.clip:
        waveforms = _clipped(waveforms, config.clip, generator)
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


def change_channel(
    waveforms: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Sends each waveform through an equaliser, a room and a telephone of its own, as the settings ask for.

    All but the codec is one multiplication of spectra. What sounds on after the end is cut off.
    """
    width = waveforms.shape[1]
    step = 1 << (width + _ECHO).bit_length() - 3
    size = -(-(width + _ECHO) // step) * step  # a transform is slow where a large prime divides its size
    spectrum = torch.fft.rfft(waveforms, n=size)
    hertz = torch.fft.rfftfreq(size, 1 / _RATE, device=waveforms.device).clamp_min(20.0)
    if config.equalise_db:
        spectrum *= 10 ** (equaliser_db(hertz, lengths, config.equalise_db, generator) / 20)
    if config.room:
        spectrum *= torch.fft.rfft(_rooms(lengths, config.room, generator), n=size)
    if config.telephone:
        called = uniform(lengths, 0.0, 1.0, generator)[:, None] < config.telephone
        low, high = (uniform(lengths, *edge, generator)[:, None] for edge in ((150, 350), (3000, 3700)))
        spectrum /= torch.where(called, (1 + (low / hertz) ** 8) * (1 + (hertz / high) ** 32), 1.0)
    changed = torch.fft.irfft(spectrum, n=size)[:, :width]
    changed = changed.masked_fill(torch.arange(width, device=hertz.device) >= lengths[:, None], 0.0)
    if config.telephone:
        coded = called & (uniform(lengths, 0.0, 3.0, generator)[:, None] < 2)
        full = changed.abs().amax(1, keepdim=True) * 10 ** (uniform(lengths, 0, 20, generator)[:, None] / 20)
        changed = torch.where(coded, _companded(changed, full.clamp_min(1e-9)), changed)
    return _as_loud(changed, waveforms)


def equaliser_db(
    hertz: Tensor, lengths: Tensor, deviation: float, generator: torch.Generator | None
) -> Tensor:
    """Draws gains in dB at ``hertz (F,)``, piecewise linear over the logarithm of frequency: ``(B, F)``."""
    gains = torch.randn(len(lengths), _GAINS, generator=generator, device=hertz.device) * deviation
    places = (hertz / 60).log() / math.log(_RATE / 2 / 60) * (_GAINS - 1)
    before = places.long().clamp(0, _GAINS - 2)
    return torch.lerp(gains[:, before], gains[:, before + 1], (places - before).clamp(0, 1))


def _rooms(lengths: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Draws responses of rooms to a click, ``(B, samples)``: the click, and fading noise from 2 ms on."""
    times = torch.arange(_ECHO, device=lengths.device) / _RATE
    fading = uniform(lengths, 0.15, 0.8, generator)[:, None]
    ratio = 10 ** (-uniform(lengths, 0.0, 12.0, generator) / 20)
    ratio = ratio.masked_fill(uniform(lengths, 0.0, 1.0, generator) >= share, 0.0)[:, None]
    noise = torch.randn(len(lengths), _ECHO, generator=generator, device=lengths.device)
    noise = (noise * 10 ** (-3 * times / fading)).masked_fill(times < 0.002, 0.0)
    return torch.nn.functional.normalize(noise) * ratio + (times == 0)


def _companded(waveforms: Tensor, full: Tensor) -> Tensor:
    """Rounds to 8 bits by the mu-law of telephones, with ``full (B, 1)`` as the largest amplitude."""
    steps = ((waveforms.abs() / full * 255).log1p() * (127 / math.log(256))).round()
    return waveforms.sign() * (steps * (math.log(256) / 127)).expm1() * full / 255


def _clipped(waveforms: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    below_db = torch.rand(2, len(waveforms), 1, generator=generator, device=waveforms.device)
    limit = waveforms.abs().amax(1, keepdim=True) * 10 ** (-(3 + 12 * below_db[0]) / 20)
    clipped = _as_loud(torch.clamp(waveforms, -limit, limit), waveforms)
    return torch.where(below_db[1] < share, clipped, waveforms)


def _as_loud(changed: Tensor, before: Tensor) -> Tensor:
    """Returns changed waveforms with the power that they had before."""
    power = before.square().sum(dim=1, keepdim=True)
    return changed * (power / changed.square().sum(dim=1, keepdim=True).clamp_min(1e-20)).sqrt()


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
