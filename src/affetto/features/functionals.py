"""Statistics over an utterance, for classical classifiers."""

import numpy as np
import torch
from torch import Tensor

from affetto.features.pitch import VOICED

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
