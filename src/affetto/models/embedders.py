"""Utterance vectors: functionals, statistics of an encoder, a trained network, or several of these joined."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.audio import SAMPLE_RATE
from affetto.config import Settings
from affetto.errors import ConfigError
from affetto.features import STATISTICS, FrontEnd, functionals
from affetto.features.front_end import block_powers, loud_weights
from affetto.models.encoder import (
    Embedder,
    Encoder,
    EncoderShape,
    Frames,
    PublishedEncoder,
    frame_mask,
    with_company,
)
from affetto.models.ge2e import DVector, Ge2eSettings
from affetto.models.layers import POOLINGS, Context, all_layers, frame_statistics
from affetto.models.logmel import CnnSettings, Top, TopSettings
from affetto.models.registry import ENCODERS, encoder_classes

LEVEL_DB = -30.0
"""The level in dB against full scale of levelled recordings."""

if TYPE_CHECKING:
    EncoderSettings = EncoderShape
else:
    _SHAPES = [encoder_classes(name)[0] for name in ENCODERS]
    EncoderSettings = Annotated[reduce(or_, _SHAPES), Field(discriminator="name")]  # of the whole registry


class FunctionalsSettings(Settings):
    """Shape of :class:`Functionals`."""

    name: Literal["functionals"] = "functionals"
    bins: int = Field(64, ge=8)


class DVectorSettings(Settings):
    """The GE2E speaker embedding."""

    name: Literal["d-vector"] = "d-vector"
    hidden: int = Field(256, ge=4)


class StatisticsSettings(Settings):
    """Mean and deviation over time of layers of an encoder, or the mean alone."""

    name: Literal["statistics"] = "statistics"
    encoder: EncoderSettings = Ge2eSettings()
    # None for all, or without the deviation for all above the encoder's lower ones.
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    deviation: bool = True
    # Whether gain, offset and pauses of a recording do not count: it is brought to LEVEL_DB first, and frames
    # by their power, see loud_weights. For encoders that read the waveform.
    levelled: bool = Field(False, repr=False)  # caches are named by the front end, which shows it


class NetworkSettings(Settings):
    """An encoder, what follows it, and a pooling."""

    name: Literal["network"] = "network"
    encoder: EncoderSettings = CnnSettings()
    # A learned weighted sum (the probe), the last, all concatenated, or one by its number from 0.
    layers: Literal["weighted", "last", "all"] | Annotated[int, Field(ge=0)] = "last"
    projector: int = Field(0, ge=0)  # width of a linear layer before the pooling, 256 in SUPERB; 0 for none
    context: int = Field(0, ge=0)  # residual blocks over time between encoder and pooling
    width: int = Field(192, ge=8)  # of these blocks
    pooling: Literal["mean", "statistics", "attentive"] = "attentive"
    dropout: float = Field(0.1, ge=0, lt=1)  # of the encoder's frames, before the blocks
    norm: bool = True  # whether the pooled vector goes through a layer norm


_Single = FunctionalsSettings | DVectorSettings | StatisticsSettings | NetworkSettings


class JoinedSettings(Settings):
    """Embedders, whose vectors are concatenated, and behind them what a network makes of these."""

    name: Literal["joined"] = "joined"
    parts: tuple[Annotated[_Single, Field(discriminator="name")], ...] = Field(min_length=1)
    top: TopSettings | None = None  # the network, which pretrain trains


EmbedderSettings = Annotated[_Single | JoinedSettings, Field(discriminator="name")]
if TYPE_CHECKING:
    PretrainedSettings = EncoderShape | JoinedSettings
else:
    PretrainedSettings = Annotated[reduce(or_, _SHAPES) | JoinedSettings, Field(discriminator="name")]


class Functionals(Embedder):
    """Statistics of log-mel bands and pitch over an utterance; nothing is learned."""

    def __init__(self, settings: FunctionalsSettings) -> None:
        super().__init__()
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins, pitch=True)
        self.dim = len(STATISTICS) * self.front_end.dim + 1

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds log-mel and pitch ``features (B, T, F)`` as ``(B, D)``."""
        return functionals(features, lengths, pitch=True)


class Statistics(Embedder):
    """Mean and deviation over time of layers of an encoder, concatenated, or the means alone.

    Off the corpus of training the means do better: deviations and the lower layers carry the channel.
    """

    def __init__(self, settings: StatisticsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = build_encoder(settings.encoder)
        self.front_end = self.encoder.front_end
        if settings.levelled:
            if self.front_end.kind != "waveform":
                raise ConfigError(
                    f"got levelled=true for {settings.encoder.name}, which reads {self.front_end.kind}; it "
                    "is for encoders that read the waveform: whisper, whisper-blocks, wav2vec2"
                )
            self.front_end = FrontEnd(kind="waveform", level_db=LEVEL_DB, levelled=True)
        dims = self.encoder.layer_dims
        self.tells_speakers = self.encoder.tells_speakers
        first = 0 if settings.deviation else min(self.encoder.lower_layers, len(dims) - 1)
        self.layers = settings.layers or tuple(range(first, len(dims)))
        if max(self.layers) >= len(dims):
            raise ConfigError(f"got layers: {max(self.layers)}; this encoder has layers 0 to {len(dims) - 1}")
        self.dim = (1 + settings.deviation) * sum(dims[layer] for layer in self.layers)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` as ``(B, D)``."""
        frames = self.encoder(features, lengths)
        chosen = frames._replace(layers=tuple(frames.layers[n] for n in self.layers))
        if not self.settings.levelled:
            return frame_statistics(chosen, self.settings.deviation)
        count, hop = frames.values.shape[1], round(self.encoder.hop_seconds * SAMPLE_RATE)
        powers = block_powers(features[:, :, 0], hop)
        weights = loud_weights(F.pad(powers, (0, count - powers.shape[1])))  # or cut, where it is negative
        return frame_statistics(chosen, self.settings.deviation, weights[:, :, None])


class Network(Embedder):
    """An encoder, a mix of its layers, residual blocks over time, and a pooling."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = build_encoder(settings.encoder)
        self.front_end = self.encoder.front_end
        dims = self.encoder.layer_dims
        # The number of the layer where one is read, else that of the last.
        self.alone = alone = settings.layers if isinstance(settings.layers, int) else len(dims) - 1
        if alone >= len(dims):
            raise ConfigError(f"got layers: {alone}; this encoder has layers 0 to {len(dims) - 1}")
        width = {"weighted": dims[0], "all": sum(dims)}.get(str(settings.layers), dims[alone])
        if settings.layers == "weighted":
            if settings.context:
                raise ConfigError("a weighted sum of layers is for probes, without context; use layers: all")
            if len(set(dims)) > 1:
                raise ConfigError(f"layers of widths {dims} cannot be summed; use layers: all")
            self.layer_weights = nn.Parameter(torch.zeros(len(dims)))
        if settings.context:
            chosen = range(len(dims)) if settings.layers == "all" else [alone]
            self.input_norms = nn.ModuleList(
                nn.Identity() if layer in self.encoder.level_layers else nn.LayerNorm(dims[layer])
                for layer in chosen
            )
            self.input_dropout = nn.Dropout(settings.dropout)
            self.input = nn.Linear(width, settings.width)
            self.output_norm = nn.LayerNorm(settings.width)
            self.blocks = nn.ModuleList(Context(settings.width) for _ in range(settings.context))
            width = settings.width
        if settings.projector:
            self.projector = nn.Linear(width, settings.projector)
            width = settings.projector
        self.pooling = POOLINGS[settings.pooling](width)
        self.dim = self.pooling.dim
        self.norm = nn.LayerNorm(self.dim) if settings.norm else nn.Identity()

    @property
    def reads_alone(self) -> bool:
        """Whether one layer is read, and no other."""
        return self.settings.layers not in ("weighted", "all")

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` as ``(B, D)``."""
        return self.pool(self.encoder(features, lengths))

    def pool(self, frames: Frames) -> Tensor:
        """Turns the encoder's frames, new or cached, into ``(B, D)``."""
        layers = frames.layers
        if self.reads_alone:
            layers = (layers[self.alone],)
        if self.settings.context:
            layers = tuple(norm(layer) for norm, layer in zip(self.input_norms, layers, strict=True))
        if self.settings.layers == "weighted":
            weights = self.layer_weights.softmax(0)
            weighted = [weight * layer for weight, layer in zip(weights, layers, strict=True)]
            values = torch.stack(weighted).sum(0)
        else:
            values = torch.cat(layers, dim=-1)
        if self.settings.context:
            mask = frame_mask(frames.lengths, values.shape[1])
            values = F.gelu(self.output_norm(self.input(self.input_dropout(values)))) * mask
            values = all_layers(self.blocks, values, mask)[-1]
        if self.settings.projector:
            values = self.projector(values)
        return torch.as_tensor(self.norm(self.pooling(values, frames.lengths)))


class Joined(Embedder):
    """Several embedders; reads the waveform, since each has a front end of its own."""

    def __init__(self, settings: JoinedSettings) -> None:
        super().__init__()
        self.parts = nn.ModuleList(build_embedder(part) for part in settings.parts)
        self.front_end = FrontEnd(kind="waveform")
        self.dim = sum(int(part.dim) for part in self.embedders)
        self.top = None if settings.top is None else Top(self.dim, settings.top)
        self.dim += 0 if settings.top is None else settings.top.width

    @property
    def embedders(self) -> list[Embedder]:
        """The parts, in order."""
        return [part for part in self.parts if isinstance(part, Embedder)]

    @property
    def of_speaker(self) -> Tensor:
        """Which of the ``D`` dimensions come from speaker encoders."""
        parts = [torch.full((part.dim,), part.tells_speakers) for part in self.embedders]
        return torch.cat([*parts, torch.zeros(self.dim - sum(map(len, parts)), dtype=torch.bool)])

    @property
    def learned(self) -> Tensor:
        """Which of the ``D`` dimensions are the network's on top."""
        return torch.arange(self.dim) >= self.dim - (0 if self.top is None else self.top.dim)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds waveforms ``(B, S, 1)`` as ``(B, D)``."""
        waveforms = features.squeeze(-1)
        return self.joined([part(*part.front_end(waveforms, lengths)) for part in self.embedders])

    def joined(self, vectors: Sequence[Tensor]) -> Tensor:
        """Returns the vectors of the parts, ``(N, D_i)`` each, and behind them what the network learned."""
        values = torch.cat(list(vectors), dim=1)
        return values if self.top is None else with_company(self._topped, values)

    def _topped(self, values: Tensor) -> Tensor:
        assert self.top is not None
        one = torch.ones(len(values), dtype=torch.int64, device=values.device)
        return torch.cat([values, self.top(values[:, None], one).values[:, 0]], dim=1)


def build_encoder(settings: EncoderShape) -> Encoder:
    """Builds an encoder with fresh weights."""
    return encoder_classes(settings.name)[1](settings)


_NETWORKS: dict[str, Any] = {
    "functionals": Functionals,
    "d-vector": lambda settings: DVector(Ge2eSettings(hidden=settings.hidden)),
    "statistics": Statistics,
    "network": Network,
    "joined": Joined,
}


def build_embedder(settings: _Single | JoinedSettings) -> Embedder:
    """Builds an embedder with fresh weights."""
    made: Embedder = _NETWORKS[settings.name](settings)
    return made


Module = TypeVar("Module", bound=nn.Module)


def load_published(network: Module) -> Module:
    """Fills every encoder inside that has published weights with them, and returns the network."""
    for module in network.modules():
        if isinstance(module, PublishedEncoder):
            module.load_published()
    return network
