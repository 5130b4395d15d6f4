"""Vectors of sound, one an utterance or one a frame, by an encoder or an embedder; names of fixed vectors."""

import hashlib
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from affetto.errors import ConfigError, unknown
from affetto.models.checkpoint import published_encoder, weights_sha256
from affetto.models.encoder import Embedder, Encoder, description
from affetto.models.layers import MeanPooling
from affetto.models.registry import EMBEDDERS, ENCODERS

JOIN = " + "
STATISTICS_OF, MEANS_OF = "-statistics", "-means"


def named_vectors(text: str) -> dict[str, Any] | None:
    """Returns the settings of the fixed vectors that a name stands for; None for a name of another kind.

    ``"whisper-statistics"`` are the :class:`Statistics` of an encoder, ``"whisper-means"`` the means alone,
    and ``"whisper + ge2e"`` the means of several, joined. A part may also be ``functionals``, ``d-vector``,
    or the folder of a published model.
    """
    names = [name.strip() for name in text.split(JOIN)]
    if len(names) == 1 and not text.endswith((STATISTICS_OF, MEANS_OF)):
        return None
    parts: list[dict[str, Any]] = []
    for name in names:
        if name in EMBEDDERS:
            parts.append({"name": name})
            continue
        base = name.removesuffix(STATISTICS_OF).removesuffix(MEANS_OF)
        encoder = {"name": base} if base in ENCODERS else published_encoder(base)
        if encoder is None:
            known = [*ENCODERS, *EMBEDDERS, "the folder of a published model"]
            raise ConfigError(unknown("encoder", base, known) + f", in {text!r}")
        parts.append({"name": "statistics", "encoder": encoder, "deviation": name.endswith(STATISTICS_OF)})
    return {"name": "joined", "parts": parts} if len(parts) > 1 else parts[0]


Layer = int | Literal["last", "mean", "all"]  # by its number, the last, the mean of all, all side by side


class Representation(nn.Module):
    """Waveforms to vectors, and where there is an encoder to frames.

    A vector is what the embedder makes, or without one, or where a layer is given, the mean of the encoder's
    valid frames. ``dim`` is the size of a vector, ``frame_dim`` that of a frame and ``hop_seconds`` the step
    between frames, both 0 without an encoder. ``untrained`` says that weights are random.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        embedder: Embedder | None,
        layer: Layer | None = None,
        name: str = "",
        untrained: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.embedder = encoder, embedder
        self.layer, self.name, self.untrained = layer, name, untrained
        self.frame_dim, self.hop_seconds = 0, 0.0
        if encoder is not None:
            self.frame_dim = _width(encoder, "last" if layer is None else layer)
            self.hop_seconds = encoder.hop_seconds
        elif layer is not None:
            raise ConfigError(f"{name or 'this embedder'} has no layers: it makes one vector an utterance")
        self.dim = self.frame_dim if embedder is None or layer is not None else embedder.dim

    @property
    def device(self) -> torch.device:
        """Where it runs; the CPU without weights."""
        return next((tensor.device for tensor in self.state_dict().values()), torch.device("cpu"))

    @property
    def sha256(self) -> str:
        """Hash over everything that its vectors and frames depend on."""
        parts = f"{self.layer} {description(self)} {weights_sha256(self)}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Turns waveforms ``(B, S)`` of valid ``lengths (B,)`` into vectors ``(B, D)``."""
        if self.embedder is not None and self.layer is None:
            return torch.as_tensor(self.embedder(*self.embedder.front_end(waveforms, lengths)))
        frames, counts = self.frames(waveforms, lengths)
        return torch.as_tensor(MeanPooling(self.frame_dim)(frames, counts))

    def frames(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turns waveforms ``(B, S)`` into frames ``(B, T, D)`` and how many of them are valid, ``(B,)``."""
        self.must_have_frames()
        assert self.encoder is not None
        found = self.encoder(*self.encoder.front_end(waveforms, lengths))
        if self.layer is None or self.layer == "last":
            return found.values, found.lengths
        if self.layer == "all":
            return torch.cat(found.layers, dim=2), found.lengths
        if self.layer == "mean":
            return torch.stack(found.layers).mean(0), found.lengths
        return found.layers[self.layer], found.lengths

    def must_have_frames(self) -> None:
        """Raises a ConfigError when there is no encoder, and so no frames."""
        if self.encoder is None:
            raise ConfigError(f"{self.name or 'this embedder'} makes one vector an utterance, and no frames")


def _width(encoder: Encoder, layer: Layer) -> int:
    dims = encoder.layer_dims
    if isinstance(layer, int):
        if not 0 <= layer < len(dims):
            known = f"this encoder has layers 0 to {len(dims) - 1}, and last, mean, all"
            raise ConfigError(f"got layer {layer}; {known}")
        return dims[layer]
    if layer == "mean" and len(set(dims)) > 1:
        raise ConfigError(f"layers of widths {dims} have no mean; take --layer all, or one by its number")
    return sum(dims) if layer == "all" else dims[-1]


def read_layer(text: str) -> Layer:
    """Reads a layer as it is written on a command line; raises a ConfigError for another word."""
    if text.lstrip("-").isdigit():
        return int(text)
    if text in (words := get_args(get_args(Layer)[1])):
        return cast(Layer, text)
    raise ConfigError(unknown("layer", text, ["a number", *words]))
