"""Which frames to hide in pretraining: at random, or where a curve such as emotion intensity is high.

Liu & Ma (Interspeech 2024) hide the frames of highest emotion intensity. Here every guidance hides exactly
the same number of frames of an utterance, in spans that do not overlap; only the places differ.
"""

from bisect import bisect_left

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from affetto.config import Settings
from affetto.errors import ConfigError

CURVES = {"emotional": "intensity", "energy": "loudness", "voiced": "voicing"}
"""Columns of curves that have a guidance of their own; any other guidance is the name of its column."""


class MaskSettings(Settings):
    """Which frames are hidden, and how many."""

    # "random"; "emotional", where intensity is high; "energy" and "voiced", where speech is loud or voiced;
    # or any other column of curves, where its curve is high.
    guidance: str = Field("random", min_length=1)
    # Share of an utterance's frames, as nearly as whole spans allow; up to one half, spans that do not
    # overlap always find room.
    ratio: float = Field(0.15, gt=0, le=0.5)
    span: int = Field(7, ge=1)  # frames hidden in a row
    sharpness: float = Field(2.0, ge=0)  # a span is e ** sharpness as likely for each deviation of the guide
    column: str | None = None  # of the manifest, with the curve; None for the one that the guidance names

    @model_validator(mode="after")
    def _fits(self) -> "MaskSettings":
        if self.column is not None and self.guidance == "random":
            raise ValueError(f"the guidance {self.guidance} looks at no column; leave column out")
        if self.sharpness != type(self).model_fields["sharpness"].default and self.guidance == "random":
            raise ValueError(f"the guidance {self.guidance} looks at no column; leave sharpness out")
        return self

    @property
    def curve(self) -> str | None:
        """The manifest column that leads the mask; None for a random one."""
        if self.guidance == "random":
            return None
        return self.column or CURVES.get(self.guidance, self.guidance)


def fitted(curves: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """Cuts curves ``(B, T')``, or fills them up with zeros, to ``(B, T)``, zero past each length."""
    curves = F.pad(curves.float(), (0, frames - curves.shape[1]))
    return curves.masked_fill(~_inside(lengths, frames), 0.0)


def hidden_frames(
    lengths: Tensor,
    frames: int,
    settings: MaskSettings,
    guide: Tensor | None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws which of ``frames`` frames are hidden in utterances of ``lengths (B,)``, ``(B, T)`` bool.

    An utterance of ``L`` frames gets ``round(ratio * L / span)`` spans, at least one if it is longer than a
    span, and none if not: nothing would be left to rebuild it from. Starts are drawn one after the other
    among those that are still free, each with a probability in proportion to ``exp(sharpness * z)``: ``z`` is
    the mean of the guide ``(B, T)`` over the span, standardised over the utterance's possible starts. A flat
    guide therefore is random. A chosen start takes at most ``2 span - 1`` starts from the others, so with
    ``ratio <= 1 / 2`` there is always a free one left. Without a fitting guide ConfigError is raised.
    """
    if settings.curve is None:
        guide = None
    elif guide is None or guide.shape != (len(lengths), frames):
        got = "none" if guide is None else f"{tuple(guide.shape)}"
        raise ConfigError(
            f"masking.guidance={settings.guidance} needs a guide of shape {(len(lengths), frames)}, got "
            f"{got}; annotate the column {settings.curve}, or choose masking.guidance=random"
        )
    span = settings.span
    uniform = torch.rand(len(lengths), frames, generator=generator, device=lengths.device)
    # Gumbel noise: the largest of weight plus noise is a draw in proportion to exp(weight), and so is the
    # largest of those that are left, however many were taken out before.
    keys = -(-uniform.clamp_min(1e-20).log()).clamp_min(1e-20).log()
    possible = _inside(lengths - span + 1, frames)
    if guide is not None:
        keys = keys + settings.sharpness * _standardised(guide, possible, span)
    keys = keys.masked_fill(~possible, -torch.inf)
    places = torch.arange(frames, device=lengths.device)
    starts = torch.zeros_like(possible)

    def spans(length: int) -> int:
        return max(1, round(settings.ratio * length / span))

    for number in range(spans(frames)):  # from the shape: nothing is read back
        start = keys.argmax(1, keepdim=True)
        shortest = bisect_left(range(frames), number + 1, span + 1, key=spans)
        starts |= (places == start) & (lengths >= shortest)[:, None]
        keys.masked_fill_((places - start).abs() < span, -torch.inf)
    begun = F.pad(starts.long().cumsum(1), (span, 0))
    return begun[:, span:] > begun[:, :-span]


def corrupt(
    features: Tensor,
    hidden: Tensor,
    lengths: Tensor,
    generator: torch.Generator | None = None,
    curve: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Corrupts hidden frames of ``features (B, T, F)``, and a curve ``(B, T)`` in the same way.

    As Mockingjay does (Liu et al. 2020, section 2.2), with one draw an utterance: with 80 % they become zero,
    which has to be an ordinary value, with 10 % each hidden stretch becomes another, random stretch of the
    same utterance, with 10 % they stay.
    """
    count, frames = hidden.shape
    drawn = torch.rand(count, frames + 1, generator=generator, device=features.device)
    dice, uniform = drawn[:, 0], drawn[:, 1:]
    emptied = hidden & (dice < 0.8)[:, None]
    moved = hidden & ((dice >= 0.8) & (dice < 0.9))[:, None]
    sources = _other_stretches(moved, lengths, uniform)
    rows = torch.arange(count, device=features.device)[:, None]

    def changed(values: Tensor) -> Tensor:
        return values[rows, sources].masked_fill(emptied[:, :, None], 0.0)

    return changed(features), None if curve is None else changed(curve[:, :, None]).squeeze(2)


def _inside(lengths: Tensor, frames: int) -> Tensor:
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


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
