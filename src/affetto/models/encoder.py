"""The contracts of encoders and embedders, and the arithmetic of lengths."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.errors import ConfigError
from affetto.features import FrontEnd

_FEWEST_ROWS = 4


class Frames(NamedTuple):
    """What an encoder returns."""

    layers: tuple[Tensor, ...]  # all layers, (B, T, D_i) each, zero past each length
    lengths: Tensor  # valid frames an utterance, (B,)

    @property
    def values(self) -> Tensor:
        """Frames of the last layer, ``(B, T, D)``."""
        return self.layers[-1]


class EncoderShape(Settings):
    """Settings of an encoder; each kind has its own, with its ``name`` as default and only value."""

    name: str


class Encoder(nn.Module):
    """Turns features into frames; padding and the rest of the batch never change an answer."""

    front_end: FrontEnd  # turns waveforms into the features that this encoder reads
    dim: int  # D, width of the last layer
    layer_dims: tuple[int, ...]  # width of each layer
    hop_seconds: float  # step between the frames that come out
    centre_seconds: float = 0.0  # the moment at the centre of the first of them
    level_layers: tuple[int, ...] = ()  # layers whose level carries loudness, so that no norm may touch them
    lower_layers: int = 0  # how many of the first layers carry the room and the channel more than the speech
    tells_speakers: bool = False  # whether it was trained to tell speakers apart
    fixed_layers: int = 0  # how many of the first layers can be computed once, since what makes them is fixed
    batch_seconds: float = 160.0  # sound, padding included, that suits it at once on a CPU
    reads_vectors: bool = False  # whether it reads one fixed vector an utterance, in the place of features

    @property
    def in_order(self) -> list[nn.Module]:
        """The blocks that follow each other, the lowest first."""
        return list(getattr(self, "blocks", ()))

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes ``features (B, T, F)`` with valid ``lengths (B,)``."""
        raise NotImplementedError  # abstract

    def completed(self, lower: Frames) -> Frames:
        """Returns all layers, from the first ``fixed_layers`` of them."""
        raise NotImplementedError  # of encoders with fixed layers


class PublishedEncoder(Encoder):
    """An encoder with published weights; they are random until :meth:`load_published`."""

    def load_published(self) -> None:
        """Fills in the published weights; the error for missing ones names their source."""
        raise NotImplementedError  # abstract


class Embedder(nn.Module):
    """Turns features into one vector an utterance; padding and the rest of the batch never change it."""

    front_end: FrontEnd  # turns waveforms into the features that this embedder reads
    dim: int  # D, size of the vector
    tells_speakers: bool = False  # whether it was trained to tell speakers apart
    unit: bool = False  # whether it has length 1, as a mean of several then should have too
    # A longer utterance should be embedded in equal parts, whose vectors are averaged, weighted by length.
    longest_seconds: float | None = None
    batch_seconds: float = 80.0  # sound, padding included, that suits it at once on a CPU

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` with valid ``lengths (B,)`` as ``(B, D)``."""
        raise NotImplementedError  # abstract


def chosen_device(name: str | torch.device = "auto") -> torch.device:
    """Returns a device: for ``auto`` a CUDA GPU, or else the CPU; Apple's GPU (``mps``) by its name alone.

    Raises:
        ConfigError: when it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"cannot use the device {str(name)!r}: {reason}; auto takes a GPU where torch finds one; "
            "cpu is always there"
        ) from error
    return device


def with_company(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Returns a function's rows for ``rows (N, D)``; fewer than four are repeated, and the rest is dropped.

    On a CPU the last digits of a product of few rows may depend on how many there are.
    """
    count = len(rows[0])
    if count >= _FEWEST_ROWS:
        return function(*rows)
    return function(*(each.repeat(_FEWEST_ROWS, 1)[:_FEWEST_ROWS] for each in rows))[:count]


def description(module: nn.Module) -> str:
    """Returns everything except weights that the output of encoders and embedders depends on."""
    # What has no weights, such as a stride, is in settings and front ends only.
    parts = [part for part in module.modules() if isinstance(part, Encoder | Embedder)]
    shapes = [f"{getattr(part, 'settings', None)!r} {part.front_end.sha256}" for part in parts]
    return "\n".join([str(module), *shapes])


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Returns ``(B, T, 1)``: 1.0 on valid frames, 0.0 on padding."""
    positions = torch.arange(frames, device=lengths.device)
    return (positions[None] < lengths[:, None]).unsqueeze(-1).float()


def cleared(values: Tensor, lengths: Tensor) -> Tensor:
    """Returns ``values (B, T, F)`` with zeros past each length, even where there was no number."""
    return torch.where(frame_mask(lengths, values.shape[1]).bool(), values.float(), 0.0)


def stacked(features: Tensor, lengths: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """Joins every ``stack`` frames to one, with zeros past each length: ``(B, ceil(T / stack), stack F)``."""
    values = F.pad(cleared(features, lengths), (0, 0, 0, -features.shape[1] % stack))
    values = values.reshape(len(values), -1, stack * values.shape[2])
    return values, (lengths + stack - 1) // stack


def normalise_logmel(features: Tensor) -> Tensor:
    """Brings log-mel features into the range of a few units, the same for every utterance."""
    # Log-mel of speech is around -7 with a deviation of about 4. The shift is fixed, so that loudness,
    # which carries emotion, stays visible.
    return (features.clamp_min(-14.0) + 7.0) / 4.0


def network_scale(features: Tensor, front_end: FrontEnd) -> Tensor:
    """Returns spectra in the scale that networks read and reconstruct, mostly a few units around 0."""
    # Kaldi's filterbanks and what is normalised by utterance have such a scale.
    if front_end.cmvn or front_end.kind == "fbank":
        return features
    return normalise_logmel(features.clamp_min(1e-10).log() if front_end.kind == "mel" else features)


def feature_scale(values: Tensor, front_end: FrontEnd) -> Tensor:
    """Returns the features that an encoder reads: undoes :func:`network_scale`."""
    if front_end.cmvn or front_end.kind == "fbank":
        return values
    logarithms = values * 4.0 - 7.0
    return logarithms.exp() if front_end.kind == "mel" else logarithms


class Stacking(Encoder):
    """An encoder that joins every ``stack`` frames of its front end to one."""

    def __init__(self, front_end: FrontEnd, stack: int) -> None:
        super().__init__()
        self.front_end, self.stack = front_end, stack
        self.hop_seconds = stack * front_end.hop_seconds
        first = front_end.window_seconds / 2 if front_end.kind == "fbank" else 0.0
        self.centre_seconds = first + (stack - 1) / 2 * front_end.hop_seconds

    def stacks(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns scaled and stacked ``features (B, T, F)``, their lengths, and their mask ``(B, T', 1)``."""
        values, lengths = stacked(network_scale(features, self.front_end), lengths, self.stack)
        return values, lengths, frame_mask(lengths, values.shape[1])
