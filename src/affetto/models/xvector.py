"""Speaker encoders of Hugging Face transformers: WavLM, UniSpeech-SAT, wav2vec 2.0 with an x-vector head."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError
from affetto.features import FrontEnd
from affetto.models.encoder import Embedder, by_length
from affetto.models.hub import library, loading

SHORTEST_SECONDS = 0.5
"""A shorter utterance is repeated up to this length: statistics over time need several frames."""

_UNUSED = ("objective.", "classifier.")  # the classifier of the speakers in training


class XVector(Embedder):
    """An x-vector model, a folder or of the hub, with the input normalisation of its own preprocessor."""

    longest_seconds = 30.0
    batch_seconds = 24.0

    def __init__(self, name: str) -> None:
        super().__init__()
        transformers = library(f"the speaker encoder {name!r}")
        self.front_end = FrontEnd(kind="waveform")
        with loading(name, "an x-vector model"):
            self._normalise: Any = transformers.AutoFeatureExtractor.from_pretrained(name)
            kind = transformers.AutoModelForAudioXVector
            network, report = kind.from_pretrained(name, output_loading_info=True)
        missing = sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED))
        if missing:
            raise CheckpointError(
                f"{name} holds no x-vector head: {', '.join(missing[:3])} and others are absent; "
                "name a model that was trained to tell speakers apart, such as microsoft/wavlm-base-plus-sv"
            )
        rate = int(getattr(self._normalise, "sampling_rate", 0))
        if rate != SAMPLE_RATE:
            raise CheckpointError(f"{name} listens at {rate} Hz; {SAMPLE_RATE} Hz is needed")
        self.network = network
        self.dim = int(network.config.xvector_output_dim)

    @property
    def settings(self) -> str:
        """The input normalisation, as JSON."""
        return str(self._normalise.to_json_string())

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds waveforms ``(B, S, 1)`` as ``(B, D)``."""
        # Only equal lengths go through together. An attention mask would not make padding harmless: group
        # norm in the first convolution, which most of these models have, reads the padding, and elsewhere
        # transformers pools a few frames too many (it counts them without the dilation of the TDNN).
        rows = []
        for row, length in zip(features.detach().cpu().numpy(), lengths.tolist(), strict=True):
            rows.append(np.resize(row[:length, 0], max(length, round(SHORTEST_SECONDS * SAMPLE_RATE))))
        vectors = torch.empty(len(rows), self.dim, device=features.device)
        for places in by_length([len(row) for row in rows]):
            waveforms = [rows[place] for place in places]
            inputs = self._normalise(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            vectors[places] = self.network(**inputs.to(features.device)).embeddings.float()
        return vectors
