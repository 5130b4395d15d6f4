"""Whisper's encoder (Radford et al. 2023), as Hugging Face transformers has it."""

import json
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError
from affetto.features import FrontEnd
from affetto.models.encoder import EncoderShape, Frames, PublishedEncoder, frame_mask
from affetto.models.hub import Adaptation, adapt, library, load_weights_of, published_part

DEFAULT = "openai/whisper-base"

_KIND = "a Whisper model"


class WhisperSettings(Adaptation, EncoderShape):
    """Which model, and its shape, which is looked up unless given: a saved recogniser needs no hub."""

    name: Literal["whisper"] = "whisper"
    model: str = DEFAULT  # a folder, or a model of the Hugging Face hub
    shape: dict[str, Any]  # the model's own config
    inputs: dict[str, Any]  # its preprocessor's

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "shape" in given:
            return given
        name = str(given.get("model", DEFAULT))
        config = published_part("AutoConfig", name, _KIND)
        inputs = published_part("AutoFeatureExtractor", name, _KIND)
        if config.model_type != "whisper":
            raise CheckpointError(
                f"{name} is a {config.model_type} model, not Whisper; name one, e.g. {DEFAULT}"
            )
        shape = json.loads(config.to_json_string(use_diff=True))
        return {**given, "shape": shape, "inputs": json.loads(inputs.to_json_string())}


class Whisper(PublishedEncoder):
    """The encoder alone, on its own log-mel, in the fixed windows of 30 s that it was trained with.

    An utterance is filled up with silence to a whole window, as in the original, so that a short one costs as
    much as a long one; a longer one goes through window by window. Only frames over the utterance come out.
    """

    def __init__(self, settings: WhisperSettings) -> None:
        super().__init__()
        self.settings = settings
        transformers = library(_KIND)
        config = transformers.AutoConfig.for_model(**settings.shape)
        config.encoder_layerdrop, config.apply_spec_augment = 0.0, False
        self.network = transformers.AutoModel.from_config(config).encoder.float()  # whatever it is stored as
        given = {key: value for key, value in settings.inputs.items() if key != "feature_extractor_type"}
        self.extract: Any = transformers.WhisperFeatureExtractor(**given)
        if self.extract.sampling_rate != SAMPLE_RATE:
            raise CheckpointError(
                f"{settings.model} listens at {self.extract.sampling_rate} Hz; {SAMPLE_RATE} Hz is needed"
            )
        adapt(self.network, self.network.layers, settings, ["fc1", "fc2"])
        self.front_end = FrontEnd(kind="waveform")
        self.dim = int(config.d_model)
        self.layer_dims = (self.dim,) * (int(config.encoder_layers) + 1)
        self.window = int(self.extract.n_samples)
        self.hop = 2 * int(self.extract.hop_length)
        self.hop_seconds = self.hop / SAMPLE_RATE

    def load_published(self) -> None:
        """Fills the encoder with the weights that the model's folder or the hub holds."""
        load_weights_of(self.network, self.settings.model, "decoder", "encoder")

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes waveforms ``(B, S, 1)``; one frame for every ``hop_seconds``."""
        windows: list[Tensor] = []
        owners: list[int] = []
        for row, length in enumerate(lengths.tolist()):
            own = torch.split(features[row, :length, 0], self.window)
            windows += own
            owners += [row] * len(own)
        spectra = self.extract(
            [each.detach().cpu().numpy() for each in windows], sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features.to(features.device)
        hidden = self.network(spectra, output_hidden_states=True).hidden_states
        counts = (lengths + self.hop - 1) // self.hop
        mask = frame_mask(counts, int(counts.max()))
        rows = torch.tensor(owners, device=features.device)
        layers = []
        for layer in hidden:
            joined = pad_sequence([layer[rows == row].flatten(0, 1) for row in range(len(lengths))], True)
            layers.append(joined[:, : mask.shape[1]] * mask)
        return Frames(tuple(layers), counts)
