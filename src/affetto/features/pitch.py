"""The fundamental frequency of a voice, and statistics of frames over an utterance; whole batches at once."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from affetto.features.mel import parts

PITCH_RATE = 4000
"""Samples per second at which pitch is looked for."""

VOICED = 0.5
"""Voicing strength from which a frame counts as voiced; below it the pitch column is 0."""

_PITCH_SPAN = 128  # samples at PITCH_RATE that are compared with their shifted selves: 32 ms
_SEGMENT = 16  # samples at PITCH_RATE that one matrix product makes
_PITCH_LAGS = (8, 67)  # 500 Hz to 60 Hz
_OCTAVE_COST = 0.03  # of correlation, for each octave below the highest pitch
_JUMP_COST = 0.15  # of correlation, for each octave away from the utterance's median pitch
_BALLAST = 0.01  # share of the utterance's mean energy that keeps pauses from looking voiced


def track_pitch(
    waveforms: Tensor, lengths: Tensor, count: int, hop: int, centre: float, rate: int, mask: Tensor
) -> Tensor:
    """Tracks the fundamental frequency between 60 and 500 Hz by normalised cross-correlation.

    At 4 kHz, 32 ms of signal are compared with what follows 2 to 16.75 ms later, each frame for itself. A
    small cost speaks against low octaves, and in a second pass another against leaps from the utterance's own
    median. (Candidates as in Talkin, "A robust algorithm for pitch tracking", 1995, section 3; the median
    takes the place of the dynamic programming.)

    Waveforms ``(B, S)`` are zero past their lengths. Frame 0 is centred on the sample ``centre``; ``hop``, a
    multiple of ``rate / 4000``, leads from one to the next; ``mask (B, T)`` is 1 within an utterance. Returns
    the log of the frequency in Hz, 0 where unvoiced, and the voicing strength, 0 to 1: ``(B, T, 2)``.
    """
    factor = rate // PITCH_RATE
    first, last = _PITCH_LAGS[0] - 1, _PITCH_LAGS[1] + 1  # one more to each side, for the parabola
    span, size = _PITCH_SPAN, _PITCH_SPAN + last
    low = _bring_down(waveforms, factor)
    low = low.masked_fill(torch.arange(low.shape[1], device=low.device) * factor >= lengths[:, None], 0.0)
    ballast = _BALLAST * span * low.square().sum(dim=1) / (lengths / factor).clamp_min(1.0)
    left = size // 2 - round(centre / factor)
    need = (count - 1) * (hop // factor) + size
    low = torch.nn.functional.pad(low, (left, max(0, need - left - low.shape[1])))
    frames = low.unfold(1, size, hop // factor)[:, :count]
    correlations = low.new_empty(low.shape[0], count, last - first + 1)
    for part in parts(frames):
        correlations[part] = _correlate(frames[part], ballast[part[0], None, None], first, last)
    inner = correlations[:, :, 1:-1]
    peaks = (inner >= correlations[:, :, :-2]) & (inner > correlations[:, :, 2:])
    octaves = torch.log2(torch.arange(first + 1, last, device=low.device) / _PITCH_LAGS[0])
    scores = torch.where(peaks, inner - _OCTAVE_COST * octaves, -1.0)
    value, best = scores.max(dim=2)
    certain = (value > 0.7) & mask
    median = torch.where(certain, octaves[best], torch.nan).nanmedian(dim=1).values.nan_to_num(2.0)
    scores -= _JUMP_COST * (octaves - median[:, None, None]).abs()
    best = scores.argmax(dim=2, keepdim=True)
    before, peak, after = (correlations.gather(2, best + shift) for shift in range(3))
    offset = ((before - after) / (2 * (before - 2 * peak + after)).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    strength = (peak - (before - after) * offset / 4).clamp(0.0, 1.0) * peaks.gather(2, best)
    frequency = PITCH_RATE / (best + first + 1 + offset)
    return torch.cat([torch.where(strength >= VOICED, frequency.log(), 0.0), strength], dim=2)


def _correlate(frames: Tensor, ballast: Tensor, first: int, last: int) -> Tensor:
    """Correlates the head of each frame with itself ``first`` to ``last`` samples on, ``(B, T, lags)``."""
    frames = frames - frames.mean(dim=2, keepdim=True)
    head = torch.fft.rfft(frames[:, :, :_PITCH_SPAN], n=256)
    products = torch.fft.irfft(head.conj() * torch.fft.rfft(frames, n=256), n=256)[:, :, first : last + 1]
    sums = torch.nn.functional.pad(frames.square().cumsum(dim=2), (1, 0))
    energies = sums[:, :, _PITCH_SPAN + first : _PITCH_SPAN + last + 1] - sums[:, :, first : last + 1]
    both = (energies + ballast) * (sums[:, :, _PITCH_SPAN : _PITCH_SPAN + 1] + ballast)
    normalised: Tensor = products / both.clamp_min(1e-20).sqrt()
    return normalised


def _bring_down(waveforms: Tensor, factor: int) -> Tensor:
    """Keeps one sample in ``factor`` of what is below 1 kHz, ``(B, ceil(S / factor))``."""
    filters = _low_pass(factor, waveforms.device)
    half, size = 8 * factor, -(-waveforms.shape[1] // factor)
    segments = -(-size // _SEGMENT)
    right = (segments - 1) * _SEGMENT * factor + filters.shape[0] - half - waveforms.shape[1]
    padded = torch.nn.functional.pad(waveforms, (half, right))
    return (padded.unfold(1, filters.shape[0], _SEGMENT * factor) @ filters).flatten(1)[:, :size]


@lru_cache(maxsize=4)
def _low_pass(factor: int, device: torch.device) -> Tensor:
    """A windowed sinc, repeated with a shift for each sample of a segment: ``(taps, segment)``."""
    taps = np.arange(-8 * factor, 8 * factor + 1)
    kernel = np.sinc(taps / (2 * factor)) * np.hanning(len(taps) + 2)[1:-1]
    filters = np.zeros((len(taps) + (_SEGMENT - 1) * factor, _SEGMENT))
    for place in range(_SEGMENT):
        filters[place * factor : place * factor + len(taps), place] = kernel / kernel.sum()
    return torch.tensor(filters, dtype=torch.float32, device=device)


STATISTICS = ("mean", "std", "skew", "p10", "p50", "p90", "range", "slope", "delta_mean", "delta_std")
"""What :func:`functionals` computes of each column, in this order."""


def functionals(features: Tensor, lengths: Tensor, pitch: bool = False) -> Tensor:
    """Summarises each column of frames ``(B, T, F)`` of ``lengths (B,)`` by ten statistics.

    They are, in the order of :data:`STATISTICS`: mean, standard deviation, skewness, the 10th, 50th and 90th
    percentile, range, slope of the regression line (change over the whole utterance), and mean absolute
    value and standard deviation of the step from frame to frame; 0 where undefined, as the skewness of a
    constant. With ``pitch`` the last two columns are those of ``FrontEnd(pitch=True)``: then the frequency is
    summarised over voiced frames alone, its steps over pairs of them, and the share of voiced frames follows.
    Returns ``(B, D)`` with ``D = 10 * F``, statistic by statistic, plus 1 with ``pitch``.
    """
    times = torch.arange(features.shape[1], device=features.device)
    inside = times < lengths[:, None]
    mask = inside[:, :, None].expand_as(features)
    if pitch:
        voiced = inside & (features[:, :, -1] >= VOICED)
        mask = mask.clone()
        mask[:, :, -2] = voiced
    place = (times / (lengths[:, None] - 1).clamp_min(1))[:, :, None] - 0.5
    number = mask.sum(dim=1)
    total = number.clamp_min(1)
    mean = torch.where(mask, features, 0.0).sum(dim=1) / total
    centred = torch.where(mask, features - mean[:, None], 0.0)
    variance = centred.square().sum(dim=1) / total
    deviation = variance.sqrt()
    steady = deviation <= 1e-4 * mean.abs().clamp_min(1e-6)  # rounding alone would decide on its shape
    skew = (centred.pow(3).sum(dim=1) / total) / deviation.pow(3).masked_fill(steady, 1.0)
    average_place = torch.where(mask, place, 0.0).sum(dim=1) / total
    places = torch.where(mask, place - average_place[:, None], 0.0)
    slope = (places * centred).sum(dim=1) / places.square().sum(dim=1).clamp_min(1e-9)
    ranked = _sorted(torch.where(mask, features, torch.inf).transpose(1, 2))
    quantiles = [_quantile(ranked, number, share) for share in (0.1, 0.5, 0.9)]
    spread = _quantile(ranked, number, 1.0) - ranked[:, :, 0].masked_fill(number == 0, 0.0)
    pairs = mask[:, 1:] & mask[:, :-1]
    steps = torch.where(pairs, features[:, 1:] - features[:, :-1], 0.0)
    couples = pairs.sum(dim=1).clamp_min(1)
    change = steps.abs().sum(dim=1) / couples
    rough = (steps.square().sum(dim=1) / couples - (steps.sum(dim=1) / couples).square()).clamp_min(0).sqrt()
    columns = [mean, deviation, skew.masked_fill(steady, 0.0), *quantiles, spread, slope, change, rough]
    if pitch:
        columns.append(voiced.sum(dim=1, keepdim=True) / lengths.clamp_min(1)[:, None])
    return torch.cat(columns, dim=1)


def _sorted(values: Tensor) -> Tensor:
    """Sorts along the last axis; on a processor numpy's sort is ten times torch's."""
    if not values.is_cpu:
        return values.sort(dim=-1).values
    return torch.from_numpy(np.sort(values.contiguous().numpy(), axis=-1))


def _quantile(ranked: Tensor, number: Tensor, share: float) -> Tensor:
    """Interpolates between the two nearest of ``number`` sorted values; 0 where there are none."""
    position = (number - 1).clamp_min(0) * share
    low = position.floor().long()
    high = position.ceil().long()
    below, above = (ranked.gather(2, index[:, :, None])[:, :, 0] for index in (low, high))
    return torch.where(number > 0, below + (above - below) * (position - low), 0.0)
