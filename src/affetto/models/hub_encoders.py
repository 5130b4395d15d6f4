"""Encoders of Hugging Face transformers: wav2vec 2.0, HuBERT, WavLM and the like, and that of Whisper."""

import json
import math
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError, ConfigError
from affetto.features import FrontEnd
from affetto.features.front_end import without_offset
from affetto.models.encoder import EncoderShape, Frames, PublishedEncoder, cleared, frame_mask
from affetto.models.hub import Adaptation, LookedUp, adapt, library, load_weights_of, published_part
from affetto.models.whisper import WhisperEncoder

_SPEECH, _WHISPER = "facebook/wav2vec2-base", "openai/whisper-base"

# Where the layers of the running forward go, and its mask: each thread has its own. transformers has an
# option for all layers, but only in the forward of a whole model, which knows no utterances of several
# lengths as they are needed here, and it leaves out blocks that layer drop skips.
_RUNNING: ContextVar[tuple[dict[int, Tensor], Tensor] | None] = ContextVar("running", default=None)


class Wav2Vec2Settings(LookedUp, Adaptation, EncoderShape):
    """Which model, its shape, and how it is trained."""

    gives: ClassVar[str] = "a speech encoder"
    name: Literal["wav2vec2"] = "wav2vec2"
    # A folder, or a model of the Hugging Face hub. Caches are not named by it: weights have a hash.
    model: str = Field(_SPEECH, repr=False)
    shape: dict[str, Any]  # the model's own config
    normalise: bool  # bring each utterance to zero mean and unit variance, as its preprocessor does
    layer_drop: float = Field(0.0, ge=0, lt=1)  # share of blocks that is skipped in training
    spec_augment: bool = False  # the model's own masking of frames and channels in training

    @classmethod
    def look_up(cls, model: str, config: Any) -> dict[str, Any]:
        """Returns whether the model's preprocessor normalises."""
        speech = hasattr(config, "conv_stride")
        inputs = published_part("AutoFeatureExtractor", model, cls.gives) if speech else None
        if inputs is None or inputs.sampling_rate != SAMPLE_RATE:
            raise CheckpointError(
                f"{model} is a {config.model_type} model, and no encoder of {SAMPLE_RATE} Hz speech like "
                f"Whisper, wav2vec 2.0, HuBERT or WavLM; name one, such as {_SPEECH}"
            )
        return {"normalise": bool(inputs.do_normalize)}


class Wav2Vec2(PublishedEncoder):
    """Convolutions on samples, a projection, and Transformer layers, all of which a probe may weigh.

    The convolutions are never trained, as is usual in fine-tuning.
    """

    batch_seconds = 24.0
    lower_layers = 2

    def __init__(self, settings: Wav2Vec2Settings) -> None:
        super().__init__()
        self.settings = settings
        transformers = library(settings.gives)
        config = transformers.AutoConfig.for_model(**settings.shape)
        config.layerdrop, config.apply_spec_augment = settings.layer_drop, settings.spec_augment
        self.network = transformers.AutoModel.from_config(config).float()  # whatever it is stored as
        self.network.feature_extractor.requires_grad_(False)
        if hasattr(self.network, "masked_spec_embed") and not settings.spec_augment:
            self.network.masked_spec_embed.requires_grad_(False)  # nothing is masked
        blocks = self.network.encoder.layers
        adapt(self.network, blocks, settings, ["intermediate_dense", "output_dense"])
        for number, block in enumerate(blocks, 1):
            block.register_forward_hook(_keeper(number))
        # The stacked position convolutions of data2vec-audio would read what each makes of padding.
        for layer in getattr(self.network.encoder.pos_conv_embed, "layers", ()):
            layer.register_forward_hook(_clear)
        self.front_end = FrontEnd(kind="waveform")
        self.dim = int(config.hidden_size)
        self.layer_dims = (self.dim,) * (int(config.num_hidden_layers) + 1)
        self.strides = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.hop_seconds = math.prod(config.conv_stride) / SAMPLE_RATE
        self.shortest = 1
        for kernel, stride in reversed(self.strides):
            self.shortest = (self.shortest - 1) * stride + kernel
        self.centre_seconds = (self.shortest - 1) / 2 / SAMPLE_RATE

    @property
    def in_order(self) -> list[nn.Module]:
        """The Transformer layers."""
        return list(self.network.encoder.layers)

    def load_published(self) -> None:
        """Fills the encoder with the weights that the model's folder or the hub holds."""
        load_weights_of(self.network, self.settings.model, "masked_spec_embed")

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes waveforms ``(B, S, 1)``; one frame for every ``hop_seconds``."""
        # Widths are those of the batch and counts stay on the device, so that nothing here waits for it.
        values, counts = self._convolved(cleared(features, lengths)[:, :, 0], lengths)
        return Frames(self._contextual(values, frame_mask(counts, values.shape[1])), counts)

    def _contextual(self, convolved: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Returns every layer ``(B, T, D)`` of what the convolutions made ``(B, T, C)``."""
        projected = self.network.feature_projection(convolved)
        values = projected[0] if isinstance(projected, tuple) else projected
        attention = mask.squeeze(2).bool()
        if self.training and self.settings.spec_augment:
            values = self.network._mask_hidden_states(values, attention_mask=attention)
        found: dict[int, Tensor] = {}
        token = _RUNNING.set((found, mask))
        try:
            last = self.network.encoder(values, attention_mask=attention).last_hidden_state
        finally:
            _RUNNING.reset(token)
        layers = [found.get(0, values)]
        for number in range(1, len(self.layer_dims)):
            layers.append(found.get(number, layers[-1]))  # a block that was skipped changes nothing
        return tuple(layer * mask for layer in (*layers[:-1], last))

    @torch.no_grad()
    def _convolved(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the frames ``(B, T, C)`` before any context, and their counts.

        ``waveforms (B, S)`` are zero past their lengths.
        """
        values = waveforms
        if self.settings.normalise:
            values = without_offset(values, lengths)
            values = values / torch.sqrt(values.square().sum(1, keepdim=True) / lengths[:, None] + 1e-7)
        values = F.pad(values, (0, max(0, self.shortest - values.shape[1])))[:, None]
        # What stays in its cache is faster on a CPU, and much at once on a GPU.
        together = len(values) if values.is_cuda else 1
        rows = torch.split(values, together), torch.split(lengths.clamp_min(self.shortest), together)
        made = [self._framed(*pair) for pair in zip(*rows, strict=True)]
        return torch.cat([frames for frames, _ in made]).mT, torch.cat([counts for _, counts in made])

    def _framed(self, values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the frames ``(B, C, T)`` of ``values (B, 1, S)``, and their counts."""
        convolutions = self.network.feature_extractor.conv_layers
        for layer, (kernel, stride) in zip(convolutions, self.strides, strict=True):
            counts = (counts - kernel) // stride + 1
            if isinstance(norm := getattr(layer, "layer_norm", None), nn.GroupNorm):
                values = layer.activation(_channels_normed(norm, layer.conv(values), counts))
            else:
                values = layer(values)
        return values, counts


def _channels_normed(norm: nn.GroupNorm, values: Tensor, counts: Tensor) -> Tensor:
    """Returns ``values (B, C, T)`` normed channel by channel over the valid frames of each utterance."""
    values, size = values.float().mul_(frame_mask(counts, values.shape[2]).mT), counts[:, None]
    mean = values.sum(2) / size
    spread = torch.linalg.vector_norm(values, dim=2).square() / size - mean.square()
    scale = norm.weight / torch.sqrt(spread.clamp_min(0) + norm.eps)
    # In place, for the largest array of the network is in memory twice otherwise.
    return torch.addcmul((norm.bias - mean * scale)[:, :, None], values, scale[:, :, None], out=values)


def _keeper(number: int) -> Any:
    def keep(_: Any, given: tuple[Tensor, ...], made: Any) -> None:
        if (running := _RUNNING.get()) is not None:
            running[0].setdefault(0, given[0])  # of the first block that is not skipped
            running[0][number] = made[0] if isinstance(made, tuple) else made

    return keep


def _clear(_: Any, given: Any, made: Tensor) -> Tensor:
    """Puts zeros past the ends in what a position convolution made, ``(B, D, T)``."""
    running = _RUNNING.get()
    return made if running is None else made * running[1].mT


class WhisperSettings(LookedUp, Adaptation, EncoderShape):
    """Which model, its shape, how it listens, and how it is trained."""

    gives: ClassVar[str] = "a Whisper model"
    name: Literal["whisper"] = "whisper"
    model: str = Field(_WHISPER, repr=False)
    shape: dict[str, Any]  # the model's own config
    inputs: dict[str, Any]  # its preprocessor's
    window: int = Field(0, ge=0)  # seconds to which silence fills up utterances, as in its training; 0: none

    @classmethod
    def look_up(cls, model: str, config: Any) -> dict[str, Any]:
        """Returns the config of the model's preprocessor."""
        if config.model_type != "whisper":
            message = f"is a {config.model_type} model, not Whisper; name one, e.g. {_WHISPER}"
            raise CheckpointError(f"{model} {message}")
        inputs = published_part("AutoFeatureExtractor", model, cls.gives)
        return {"inputs": json.loads(inputs.to_json_string())}


class Whisper(WhisperEncoder):
    """Whisper's encoder (Radford et al. 2023) by transformers, which can also be trained in part."""

    def __init__(self, settings: WhisperSettings) -> None:
        inputs, window = settings.inputs, settings.window
        if (rate := inputs["sampling_rate"]) != SAMPLE_RATE:
            raise CheckpointError(f"{settings.model} listens at {rate} Hz; {SAMPLE_RATE} Hz is needed")
        if window > (most := inputs["chunk_length"]):
            raise ConfigError(f"got encoder.window={window}; {settings.model} hears at most {most} s")
        transformers = library(settings.gives)
        config = transformers.AutoConfig.for_model(**settings.shape)
        config.encoder_layerdrop, config.apply_spec_augment, config.decoder_layers = 0.0, False, 0
        made = transformers.AutoModel.from_config(config, attn_implementation="sdpa")
        network = made.encoder.float()  # whatever it is stored as
        super().__init__(network, config.d_model, inputs, window)
        self.settings = settings
        adapt(network, network.layers, settings, ["fc1", "fc2"])
        if settings.trained_blocks and not window:  # else the silence would have to be kept
            self.fixed_layers = len(self.layer_dims) - settings.trained_blocks

    def load_published(self) -> None:
        """Fills the encoder with the weights that the model's folder or the hub holds."""
        load_weights_of(self.network, self.settings.model, "decoder", "encoder")
