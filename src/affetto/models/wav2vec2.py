"""Speech encoders of Hugging Face transformers: wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT."""

import json
import math
from contextvars import ContextVar
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from affetto.audio import SAMPLE_RATE
from affetto.config import Settings
from affetto.errors import CheckpointError
from affetto.features import FrontEnd
from affetto.models.encoder import Encoder, Frames, frame_mask
from affetto.models.hub import FAULTS, library, not_there, published, quiet

DEFAULT = "facebook/wav2vec2-base"

_KIND = "a speech encoder"

_LAYERS: ContextVar[list[Tensor] | None] = ContextVar("layers", default=None)
"""Where the layers of the running forward go: each thread has its own."""


class Wav2Vec2Settings(Settings):
    """Which model, and its shape, which is looked up unless given: a saved recogniser needs no hub.

    Attributes:
        model: a folder, or a model of the Hugging Face hub.
        shape: the model's own config.
        normalise: whether each utterance is brought to zero mean and unit variance, as its preprocessor says.
    """

    name: Literal["wav2vec2"] = "wav2vec2"
    model: str = DEFAULT
    shape: dict[str, Any]
    normalise: bool

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "shape" in given:
            return given
        name = str(given.get("model", DEFAULT))
        try:
            with quiet():
                config = library(_KIND).AutoConfig.from_pretrained(name)
                inputs = library(_KIND).AutoFeatureExtractor.from_pretrained(name)
        except FAULTS as error:
            raise not_there(name, _KIND, error) from error
        if inputs.sampling_rate != SAMPLE_RATE or not hasattr(config, "conv_stride"):
            raise CheckpointError(
                f"{name} is no encoder of {SAMPLE_RATE} Hz speech like wav2vec 2.0, HuBERT or WavLM; "
                f"name one, such as {DEFAULT}"
            )
        shape = json.loads(config.to_json_string(use_diff=True))
        return {**given, "shape": shape, "normalise": bool(inputs.do_normalize)}


class Wav2Vec2(Encoder):
    """Convolutions on samples, a projection, and transformer layers, all of which a probe may weigh.

    Group norm in the first convolution, which the base models have, looks at a whole utterance and would look
    at padding too: convolutions go through utterance by utterance, the rest together behind a mask. The
    convolutions stay as they are, as is usual in fine-tuning. Nothing is hidden or dropped by layer inside.

    Args:
        settings: which model; its weights are random until :meth:`load_published`.
    """

    def __init__(self, settings: Wav2Vec2Settings) -> None:
        super().__init__()
        self.settings = settings
        config = library(_KIND).AutoConfig.for_model(**settings.shape)
        config.layerdrop, config.apply_spec_augment = 0.0, False
        self.network = library(_KIND).AutoModel.from_config(config)
        if hasattr(self.network.encoder.pos_conv_embed, "layers"):
            raise CheckpointError(
                f"{settings.model} has several layers of position convolutions, as data2vec has, through "
                f"which padding would change answers; name another model, such as {DEFAULT}"
            )
        self.network.feature_extractor.requires_grad_(False)
        if hasattr(self.network, "masked_spec_embed"):
            self.network.masked_spec_embed.requires_grad_(False)  # nothing is masked here
        blocks = self.network.encoder.layers
        blocks[0].register_forward_pre_hook(_keep_input)
        for block in blocks:
            block.register_forward_hook(_keep_output)
        self.front_end = FrontEnd(kind="waveform")
        self.dim = int(config.hidden_size)
        self.layer_dims = (self.dim,) * (int(config.num_hidden_layers) + 1)
        self.strides = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.hop_seconds = math.prod(config.conv_stride) / SAMPLE_RATE
        self.shortest = 1
        for kernel, stride in reversed(self.strides):
            self.shortest = (self.shortest - 1) * stride + kernel
        self.centre_seconds = (self.shortest - 1) / 2 / SAMPLE_RATE

    def load_published(self) -> None:
        """Fills the encoder with the weights that the model's folder or the hub holds.

        Raises:
            CheckpointError: where there are none, or they do not fit.
        """
        self.network.load_state_dict(published(self.settings.model, _KIND, "masked_spec_embed"))

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes waveforms ``(B, S, 1)``; one frame for every ``hop_seconds``."""
        heard = [self._convolved(row[:length, 0]) for row, length in zip(features, lengths, strict=True)]
        frames = torch.tensor([len(row) for row in heard], device=features.device)
        projected = self.network.feature_projection(torch.nn.utils.rnn.pad_sequence(heard, batch_first=True))
        values = projected[0] if isinstance(projected, tuple) else projected
        mask = frame_mask(frames, values.shape[1])
        padded = bool((frames < values.shape[1]).any())
        layers: list[Tensor] = []
        token = _LAYERS.set(layers)
        try:
            last = self.network.encoder(
                values, attention_mask=mask.squeeze(2).bool() if padded else None
            ).last_hidden_state
        finally:
            _LAYERS.reset(token)
        shown = tuple(layer * mask for layer in (*layers[:-1], last))
        return Frames(shown[-1], frames, shown)

    def _convolved(self, samples: Tensor) -> Tensor:
        """Returns the frames of one utterance ``(S,)`` before any context, ``(T, C)``."""
        if self.settings.normalise:
            samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        samples = F.pad(samples, (0, max(0, self.shortest - len(samples))))
        with torch.no_grad():
            return torch.as_tensor(self.network.feature_extractor(samples[None])[0].T)


def _keep_input(_: Any, given: tuple[Tensor, ...]) -> None:
    if (layers := _LAYERS.get()) is not None:
        layers.append(given[0])


def _keep_output(_: Any, given: tuple[Tensor, ...], made: Any) -> None:
    if (layers := _LAYERS.get()) is not None:
        layers.append(made[0] if isinstance(made, tuple) else made)
