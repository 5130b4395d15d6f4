"""Speaker models in ONNX files that take Kaldi filterbanks, such as those that WeSpeaker publishes.

onnxruntime is an optional package, imported when the first such model is loaded.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import CheckpointError, MissingPackageError
from affetto.features import FrontEnd
from affetto.models.encoder import Embedder, by_length

BINS = 80
SHORTEST_FRAMES = 50
"""Fewer frames are repeated up to this number: statistics over time need several."""


class OnnxSpeaker(Embedder):
    """ECAPA-TDNN, ResNet, CAM++ and the like: filterbanks in, one vector out.

    The mean over time of each band is subtracted first, utterance by utterance. Such models know no mask, so
    only utterances of equally many frames go through them together. The file has one input ``(B, T, 80)``
    with free ``T``, and ``(B, D)`` as its first output. WeSpeaker takes the Hamming taper, most others povey.
    """

    longest_seconds = 60.0
    batch_seconds = 40.0

    def __init__(
        self, file: Path, device: str = "cpu", taper: Literal["povey", "hamming"] = "hamming"
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(kind="fbank", bins=BINS, taper=taper)
        self._session = _session(file, device)
        # The weights are in no state_dict: the file's hash stands for them.
        self.settings = hashlib.sha256(file.read_bytes()).hexdigest()
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 3 or (isinstance(shape[2], int) and shape[2] != BINS):
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise CheckpointError(
                f"{file} takes {found or 'nothing'}; a speaker model with one input "
                f"(utterances, frames, {BINS}) is needed"
            )
        if isinstance(shape[1], int):
            raise CheckpointError(
                f"{file} takes {shape[1]} frames and no other number; export it with a free number of frames"
            )
        self._name = inputs[0].name
        self._together = shape[0] if isinstance(shape[0], int) else None
        probe = np.random.default_rng(0).standard_normal((1, 4 * SHORTEST_FRAMES, BINS))
        try:
            self.dim = self._run(np.repeat(probe, self._together or 1, axis=0).astype(np.float32)).shape[1]
        except Exception as error:  # onnxruntime raises a dozen kinds, of no common family
            raise CheckpointError(f"{file} cannot be run on filterbanks: {error}") from error

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds filterbanks ``(B, T, F)`` as ``(B, D)``."""
        rows = []
        for row, length in zip(features.detach().cpu().numpy(), lengths.tolist(), strict=True):
            frames = row[:length] - row[:length].mean(axis=0)
            rows.append(np.resize(frames, (max(length, SHORTEST_FRAMES), frames.shape[1])))
        vectors = torch.empty(len(rows), self.dim, device=features.device)
        for group in by_length([len(row) for row in rows]):
            step = self._together or len(group)
            for begin in range(0, len(group), step):
                places = group[begin : begin + step]
                filled = places + places[:1] * (step - len(places) if self._together else 0)
                answer = self._run(np.stack([rows[place] for place in filled]))[: len(places)]
                vectors[places] = torch.from_numpy(answer).to(features.device)
        return vectors

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = np.asarray(self._session.run(None, {self._name: features})[0], np.float32)
        return answer.reshape(len(features), -1)


def _session(file: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            f"{file} needs the onnxruntime package; install it with: pip install onnxruntime"
        ) from error
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
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
