"""Which frames to hide in pretraining: at random, or led by a curve such as emotion intensity.

Liu & Ma (Interspeech 2024) hide the frames of highest emotion intensity. In their released code the hidden
spans lie beside and over each other, so that far less is hidden than at random, and a gain may come from
either. Here every guidance hides exactly the same number of frames of an utterance; only where differs. The
released way, and the random one that goes with it, are kept as two further guidances.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from affetto.config import Settings
from affetto.errors import ConfigError, ManifestError

Guidance = Literal[
    "random",
    "emotional",
    "energy",
    "voiced",
    "low-intensity",
    "shuffled-intensity",
    "as-released",
    "random-as-released",
]

CURVES: dict[str, str] = {
    "emotional": "intensity",
    "low-intensity": "intensity",
    "shuffled-intensity": "intensity",
    "as-released": "intensity",
    "energy": "loudness",
    "voiced": "voicing",
}
"""The column of the manifest that a guidance looks at; those that are not here look at none."""


class MaskSettings(Settings):
    """Which frames are hidden, and how many.

    Attributes:
        guidance: ``"random"``; ``"emotional"``, where intensity is high; ``"energy"`` and ``"voiced"``, where
            speech is loud or voiced; ``"low-intensity"``, where intensity is low; ``"shuffled-intensity"``,
            where a fixed permutation of the intensity is high; ``"as-released"``, the steps of the released
            code of Liu & Ma, with its overlaps; ``"random-as-released"``, random spans that may overlap.
        ratio: share of an utterance's frames that is hidden, as nearly as whole spans allow; at most one
            half, up to which spans that do not overlap always find room.
        span: frames hidden in a row.
        sharpness: how steeply a guided span's chance rises with the guide: by a factor of ``e ** sharpness``
            for each standard deviation of the guide's mean over a span. 0 is random.
        column: manifest column of the curve; None for the one the guidance goes by.
    """

    guidance: Guidance = "random"
    ratio: float = Field(0.15, gt=0, le=0.5)
    span: int = Field(7, ge=1)
    sharpness: float = Field(2.0, ge=0)
    column: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> "MaskSettings":
        if self.column is not None and self.guidance not in CURVES:
            raise ValueError(f"the guidance {self.guidance} looks at no column; leave column out")
        return self

    @property
    def curve(self) -> str | None:
        """The manifest column that the guidance looks at; None where it looks at none."""
        known = CURVES.get(self.guidance)
        return known if known is None or self.column is None else self.column


def prepared(curve: NDArray[np.floating], guidance: Guidance, seed: int) -> NDArray[np.float32]:
    """Returns what a guidance is led by, ``(T,)``, made from an utterance's curve ``(T,)``.

    That is one minus the curve for ``"low-intensity"``, a permutation that is always the same for the same
    seed for ``"shuffled-intensity"``, and the curve itself else.

    Args:
        curve: one number a frame, about 0 to 1.
        guidance: see :class:`MaskSettings`.
        seed: of the permutation, e.g. the utterance's row.

    Raises:
        ManifestError: for a curve that is not one finite number a frame.
    """
    values = np.asarray(curve, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ManifestError(
            f"got a curve of shape {values.shape} with {int((~np.isfinite(values)).sum())} values that are "
            "no finite numbers; one a frame is needed: make it anew with affetto annotate intensity"
        )
    if guidance == "low-intensity":
        return np.asarray(1 - values, np.float32)
    if guidance == "shuffled-intensity":
        return np.random.default_rng(seed).permutation(values)
    return values


def fitted(curves: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """Returns curves ``(B, T')``, cut or filled up with zeros to ``(B, T)``, zero past each length."""
    curves = F.pad(curves.float(), (0, frames - curves.shape[1]))
    return curves.masked_fill(~_inside(lengths, frames), 0.0)


def hidden_frames(
    lengths: Tensor,
    frames: int,
    settings: MaskSettings,
    guide: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Draws which frames of each utterance are hidden.

    An utterance of ``L`` frames gets ``round(ratio * L / span)`` spans, at least one where one fits, and none
    where it is no longer than a span: nothing would be left to rebuild it from. Spans do not overlap. Starts
    are drawn one after the other among those that are still free, each with a chance in proportion to
    ``exp(sharpness * z)``: ``z`` is the mean of the guide over the span, standardised over the utterance's
    possible starts. A flat guide therefore is random. A chosen start takes at most ``2 span - 1`` starts
    from the others, so with ``ratio <= 1 / 2`` there is always a free one left.

    ``"as-released"`` are steps 1 to 5 of the released code of Liu & Ma (2024): of the ``2 P`` frames of
    highest intensity the first ``P`` that may start a span, or else ``P`` random starts. There the last
    possible start is left out, short utterances get no span, and spans overlap.

    Args:
        lengths: frames in each utterance, ``(B,)``.
        frames: ``T``.
        settings: which, and how many.
        guide: what :func:`prepared` returns, ``(B, T)``, zero past each length; None where the guidance
            looks at none.
        generator: on the CPU; the source of every random number.

    Returns:
        ``(B, T)`` bool, on the device of ``lengths``.

    Raises:
        ConfigError: when the guide is missing, or not ``(B, T)``.
    """
    if settings.curve is None:
        guide = None
    elif guide is None or guide.shape != (len(lengths), frames):
        got = "none" if guide is None else f"{tuple(guide.shape)}"
        raise ConfigError(
            f"masking.guidance={settings.guidance} needs a guide of shape {(len(lengths), frames)}, got "
            f"{got}; annotate the column {settings.curve}, or choose masking.guidance=random"
        )
    uniform = torch.rand(len(lengths), frames, generator=generator).to(lengths.device)
    noise = -(-uniform.clamp_min(1e-20).log()).clamp_min(1e-20).log()  # of Gumbel's distribution
    if settings.guidance.endswith("as-released"):
        starts = _released_starts(lengths, settings, guide, noise)
    else:
        starts = _separate_starts(lengths, settings, guide, noise)
    begun = F.pad(starts.long().cumsum(1), (settings.span, 0))
    return begun[:, settings.span :] > begun[:, : -settings.span]


def corrupt(
    features: Tensor,
    hidden: Tensor,
    lengths: Tensor,
    generator: torch.Generator,
    curve: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Does to hidden frames what Mockingjay does: one throw of the dice an utterance.

    With 80 % they become zero, with 10 % each hidden stretch becomes another, random stretch of the same
    utterance, with 10 % they stay (Liu et al. 2020, section 2.2). A curve is treated in the same way.

    Args:
        features: ``(B, T, F)``, in a scale in which 0 is ordinary.
        hidden: from :func:`hidden_frames`, ``(B, T)``.
        lengths: frames in each utterance, ``(B,)``.
        generator: on the CPU; the source of every random number.
        curve: ``(B, T)``.

    Returns:
        New features, and the new curve where there is one.
    """
    count, frames = hidden.shape
    drawn = torch.rand(count, frames + 1, generator=generator).to(features.device)
    dice, uniform = drawn[:, 0], drawn[:, 1:]
    emptied = hidden & (dice < 0.8)[:, None]
    moved = ((dice >= 0.8) & (dice < 0.9)).nonzero().squeeze(1)
    sources = _other_stretches(hidden[moved], lengths[moved], uniform[moved])

    def changed(values: Tensor) -> Tensor:
        result = values.masked_fill(emptied[:, :, None], 0.0)
        result[moved] = values[moved].gather(1, sources[:, :, None].expand(-1, -1, values.shape[2]))
        return result

    return changed(features), None if curve is None else changed(curve[:, :, None]).squeeze(2)


def _inside(lengths: Tensor, frames: int) -> Tensor:
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def _span_counts(lengths: Tensor, settings: MaskSettings) -> Tensor:
    return (settings.ratio * lengths.double() / settings.span).round().long()


def _separate_starts(lengths: Tensor, settings: MaskSettings, guide: Tensor | None, noise: Tensor) -> Tensor:
    """Returns starts of spans that do not overlap, ``(B, T)`` bool.

    The largest of weight plus Gumbel noise is a draw in proportion to ``exp(weight)``, and so is the largest
    of those that are left, however many were taken out in between.
    """
    span = settings.span
    possible = _inside(lengths - span + 1, noise.shape[1])
    counts = torch.where(lengths > span, _span_counts(lengths, settings).clamp_min(1), 0)
    keys = noise if guide is None else noise + settings.sharpness * _standardised(guide, possible, span)
    keys = keys.masked_fill(~possible, -torch.inf)
    places = torch.arange(noise.shape[1], device=noise.device)
    starts = torch.zeros_like(possible)
    for number in range(int(counts.max())):
        start = keys.argmax(1, keepdim=True)
        starts |= (places == start) & (number < counts)[:, None]
        keys.masked_fill_((places - start).abs() < span, -torch.inf)
    return starts


def _standardised(guide: Tensor, possible: Tensor, span: int) -> Tensor:
    """Returns the guide's mean over the span from each start, standardised over the possible starts."""
    if guide.shape[1] < span:
        return torch.zeros_like(guide)
    means = F.avg_pool1d(guide.float()[:, None], span, stride=1)[:, 0]
    means = F.pad(means, (0, span - 1)).masked_fill(~possible, 0.0)
    number = possible.sum(1, keepdim=True).clamp_min(1)
    centred = (means - means.sum(1, keepdim=True) / number).masked_fill(~possible, 0.0)
    spread = (centred.square().sum(1, keepdim=True) / number).sqrt()
    # What rounding leaves of a flat guide is not a preference.
    flat = spread <= 1e-5 * means.abs().amax(1, keepdim=True)
    return torch.where(flat, 0.0, centred / spread.clamp_min(1e-20))


def _released_starts(lengths: Tensor, settings: MaskSettings, guide: Tensor | None, noise: Tensor) -> Tensor:
    """Returns starts of spans that may overlap, ``(B, T)`` bool."""
    counts = _span_counts(lengths, settings)[:, None]
    possible = _inside(lengths - settings.span, noise.shape[1])
    ranks = torch.arange(noise.shape[1], device=noise.device)
    order = noise.masked_fill(~possible, -torch.inf).argsort(1, descending=True)
    starts = torch.zeros_like(possible).scatter(1, order, ranks < counts) & possible
    if guide is None:
        return starts
    inside = _inside(lengths, noise.shape[1])
    order = guide.masked_fill(~inside, -torch.inf).argsort(dim=1, descending=True, stable=True)
    found = possible.gather(1, order) & (ranks < 2 * counts)
    enough = found.sum(1, keepdim=True) >= counts
    found &= found.cumsum(1) <= counts
    return torch.where(enough, torch.zeros_like(possible).scatter(1, order, found), starts)


def _other_stretches(hidden: Tensor, lengths: Tensor, uniform: Tensor) -> Tensor:
    """Returns for each frame the one that takes its place, ``(B, T)``: hidden stretches move as a whole."""
    frames = hidden.shape[1]
    places = torch.arange(frames, device=hidden.device).expand_as(hidden)
    edges = hidden.long().diff(dim=1, prepend=hidden.new_zeros(len(hidden), 1).long())
    first = torch.where(edges == 1, places, 0).cummax(1).values
    edges = hidden.long().diff(dim=1, append=hidden.new_zeros(len(hidden), 1).long())
    last = torch.where(edges == -1, places, frames - 1).flip(1).cummin(1).values.flip(1)
    room = (lengths[:, None] - (last - first)).clamp_min(1)
    moved = (uniform.gather(1, first) * room).long() + places - first
    return torch.where(hidden, moved, places)
