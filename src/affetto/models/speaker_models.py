"""Speaker encoders from elsewhere: x-vector models of Hugging Face transformers, and ONNX files.

transformers and onnxruntime are optional packages, imported when the first such model is loaded.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError, MissingPackageError
from affetto.features import FrontEnd
from affetto.models.encoder import Embedder
from affetto.models.hub import library, loading, optional

# A shorter utterance is repeated up to this length: statistics over time need several frames.
_SHORTEST_SAMPLES, _SHORTEST_FRAMES = round(0.5 * SAMPLE_RATE), 50
_BINS = 80
_UNUSED = ("objective.", "classifier.")  # the classifier of the speakers in training

_Rows = list[NDArray[np.float32]]


class _OneLengthAtATime(Embedder):
    """An embedder whose network knows no mask: only utterances of equal length go through it together."""

    shortest: int  # in samples or frames, as it reads

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` as ``(B, D)``."""
        rows: _Rows = []
        for row, length in zip(features.detach().cpu().numpy(), lengths.tolist(), strict=True):
            own = self._prepared(row[:length])
            rows.append(np.resize(own, (max(length, self.shortest), own.shape[1])))
        vectors = torch.empty(len(rows), self.dim, device=features.device)
        alike: dict[int, list[int]] = {}  # places by length
        for place, row in enumerate(rows):
            alike.setdefault(len(row), []).append(place)
        for places in alike.values():
            vectors[places] = self._embedded([rows[place] for place in places], features.device)
        return vectors

    def _prepared(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        return row

    def _embedded(self, rows: _Rows, device: torch.device) -> Tensor:
        raise NotImplementedError  # abstract


class XVector(_OneLengthAtATime):
    """WavLM, UniSpeech-SAT, wav2vec 2.0 with an x-vector head, and the normalisation of their preprocessor.

    ``name`` is a folder or a hub id. An attention mask would not make padding harmless: group norm in the
    first convolution, which most of these models have, reads the padding, and elsewhere transformers pools a
    few frames too many (it counts them without the dilation of the TDNN).
    """

    longest_seconds = 30.0
    batch_seconds = 24.0
    shortest = _SHORTEST_SAMPLES

    def __init__(self, name: str) -> None:
        super().__init__()
        transformers = library(f"the speaker encoder {name!r}")
        self.front_end = FrontEnd(kind="waveform")
        with loading(name, "an x-vector model"):
            self._normalise: Any = transformers.AutoFeatureExtractor.from_pretrained(name)
            kind = transformers.AutoModelForAudioXVector
            self.network, report = kind.from_pretrained(name, output_loading_info=True)
        if missing := sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED)):
            raise CheckpointError(
                f"{name} holds no x-vector head: {', '.join(missing[:3])} and others are absent; "
                "name a model that was trained to tell speakers apart, such as microsoft/wavlm-base-plus-sv"
            )
        rate = int(getattr(self._normalise, "sampling_rate", 0))
        if rate != SAMPLE_RATE:
            raise CheckpointError(f"{name} listens at {rate} Hz; {SAMPLE_RATE} Hz is needed")
        self.settings = str(self._normalise.to_json_string())
        self.dim = int(self.network.config.xvector_output_dim)

    def _embedded(self, rows: _Rows, device: torch.device) -> Tensor:
        waveforms = [row[:, 0] for row in rows]
        inputs = self._normalise(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return torch.as_tensor(self.network(**inputs.to(device)).embeddings.float())


class OnnxSpeaker(_OneLengthAtATime):
    """ECAPA-TDNN, ResNet, CAM++ and the like, as WeSpeaker publishes them: filterbanks in, one vector out.

    The mean over time of each band is subtracted first, utterance by utterance. The file has one input
    ``(B, T, 80)`` with free ``T``, and ``(B, D)`` as its first output. WeSpeaker takes the Hamming taper,
    most others povey.
    """

    longest_seconds = 60.0
    batch_seconds = 40.0
    shortest = _SHORTEST_FRAMES

    def __init__(
        self, file: Path, device: str = "auto", taper: Literal["povey", "hamming"] = "hamming"
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(kind="fbank", bins=_BINS, taper=taper)
        self._session = _session(file, device)
        # The weights are in no state_dict: the file's hash stands for them.
        self.settings = hashlib.sha256(file.read_bytes()).hexdigest()
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 3 or (isinstance(shape[2], int) and shape[2] != _BINS):
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise CheckpointError(
                f"{file} takes {found or 'nothing'}; a speaker model with one input "
                f"(utterances, frames, {_BINS}) is needed"
            )
        if isinstance(shape[1], int):
            raise CheckpointError(
                f"{file} takes {shape[1]} frames and no other number; export it with a free number of frames"
            )
        self._name = inputs[0].name
        self._together = shape[0] if isinstance(shape[0], int) else None
        probe = np.random.default_rng(0).standard_normal((1, 4 * _SHORTEST_FRAMES, _BINS))
        try:
            self.dim = self._run(np.repeat(probe, self._together or 1, axis=0).astype(np.float32)).shape[1]
        except Exception as error:  # onnxruntime raises a dozen kinds, of no common family
            raise CheckpointError(f"{file} cannot be run on filterbanks: {error}") from error

    def _prepared(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(row - row.mean(axis=0))

    def _embedded(self, rows: _Rows, device: torch.device) -> Tensor:
        step = self._together or len(rows)
        filled = np.stack(rows + rows[:1] * (-len(rows) % step))
        answers = [self._run(filled[begin : begin + step]) for begin in range(0, len(rows), step)]
        return torch.from_numpy(np.concatenate(answers)[: len(rows)]).to(device)

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = np.asarray(self._session.run(None, {self._name: features})[0], np.float32)
        return answer.reshape(len(features), -1)


def _session(file: Path, device: str) -> Any:
    onnxruntime = optional("onnxruntime", str(file), "onnxruntime")
    providers = ["CPUExecutionProvider"]
    there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") or (device == "auto" and there):
        if not there:
            raise MissingPackageError(
                "this onnxruntime runs on no GPU; install the one that does with: pip install onnxruntime-gpu"
            )
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several batches go through at once instead
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen kinds, of no common family
        raise CheckpointError(f"{file} is no ONNX model that can be read: {error}") from error
