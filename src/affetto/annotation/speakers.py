"""Speaker embeddings: waveforms in, one vector an utterance out, by whichever encoder is named."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.audio import SAMPLE_RATE
from affetto.errors import ConfigError, unknown
from affetto.models.checkpoint import weights_sha256
from affetto.models.encoder import Embedder, chosen_device

GE2E = {
    "ge2e": "the speaker embedding",
    "ge2e-statistics": "mean and deviation over time of all three layers; says more of the mood",
    "ge2e-content": "the course of the middle layer over the utterance: what is said, not how",
}
"""What can be read from the GE2E encoder, by name."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, eq=False)
class SpeakerEncoder:
    """A speaker encoder on a device; safe to use from several threads.

    Attributes:
        name: what it is called in descriptions; of a folder or a file its last part.
        sha256: hash of its weights and of how its input is made.
        embedder: the network.
        device: where it runs.
        batch_seconds: how many seconds of sound it likes to get at once, padding included.
        longest_seconds: a longer utterance is embedded in equal parts, whose vectors are averaged; None for
            an encoder that takes any length.
    """

    name: str
    sha256: str
    embedder: Embedder
    device: torch.device
    batch_seconds: float
    longest_seconds: float | None

    @property
    def dim(self) -> int:
        """``D``, size of a vector."""
        return self.embedder.dim

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embeds utterances, ``(N, D)``.

        Args:
            waveforms: samples of each, ``(S,)`` at 16 kHz.
        """
        parts = [self._parts(waveform) for waveform in waveforms]
        pieces = [piece for several in parts for piece in several]
        lengths = [len(piece) for piece in pieces]
        vectors = np.empty((len(pieces), self.dim), np.float32)
        for batch in self.batches(lengths):
            vectors[batch] = self._together([pieces[place] for place in batch]).cpu().numpy()
        if len(pieces) == len(parts):
            return vectors
        ends = np.cumsum([len(several) for several in parts])
        pairs = zip(np.split(vectors, ends[:-1]), np.split(np.array(lengths), ends[:-1]), strict=True)
        return np.stack([np.average(own, axis=0, weights=long).astype(np.float32) for own, long in pairs])

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yields the places of utterances that go together: of similar length, about equal seconds."""
        batch: list[int] = []
        for place in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) + 1) * lengths[place] > self.batch_seconds * SAMPLE_RATE:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _parts(self, waveform: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self.longest_seconds is None or len(waveform) <= self.longest_seconds * SAMPLE_RATE:
            return [waveform]
        return list(np.array_split(waveform, -(-len(waveform) // round(self.longest_seconds * SAMPLE_RATE))))

    def _together(self, waveforms: list[NDArray[np.float32]]) -> Tensor:
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        stacked = np.zeros((len(waveforms), int(lengths.max())), np.float32)
        for row, waveform in zip(stacked, waveforms, strict=True):
            row[: len(waveform)] = waveform
        values = torch.from_numpy(stacked).to(self.device)
        return torch.as_tensor(self.embedder(*self.embedder.front_end(values, lengths.to(self.device))))


def load_encoder(
    name: str, device: str = "cpu", taper: Literal["povey", "hamming"] = "hamming"
) -> SpeakerEncoder:
    """Loads a speaker encoder.

    Args:
        name: one of :data:`GE2E`, with the Resemblyzer weights; the path of an ``.onnx`` file that takes
            80-bin Kaldi filterbanks; or an x-vector model of transformers, a folder or a hub id such as
            ``owner/name``.
        device: where it runs, e.g. ``cpu`` or ``cuda``.
        taper: window of the filterbanks of an ONNX model.

    Raises:
        ConfigError: for a name that is none of these, or a device that is not there.
        MissingPackageError: with the install line, where a package is needed.
        CheckpointError: where there is no such model, or one of another kind.
    """
    path = Path(name)
    embedder: Embedder
    if name in GE2E:
        from affetto.models.embedders import load_published

        embedder = load_published(_ge2e(name))
        settings = "" if name == "ge2e" else name  # the weights are the same
        return _on_device(embedder, name, _sha256(embedder, settings), device)
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; name the ONNX file of a speaker model")
        from affetto.models.onnx import OnnxSpeaker

        embedder = OnnxSpeaker(path, device, taper)
        return _on_device(embedder, path.name, _sha256(embedder, embedder.settings), device)
    if path.is_dir() or _HUB_ID.fullmatch(name):
        from affetto.models.xvector import XVector

        embedder = XVector(name)
        shown = path.resolve().name if path.is_dir() else name
        return _on_device(embedder, shown, _sha256(embedder, embedder.settings), device)
    kinds = (*GE2E, "FILE.onnx", "a folder with an x-vector model", "a hub id such as owner/name")
    raise ConfigError(unknown("speaker encoder", name, kinds))


def _ge2e(name: str) -> Embedder:
    from affetto.models.content import Course
    from affetto.models.embedders import Statistics, StatisticsSettings
    from affetto.models.ge2e import DVector, Ge2e

    if name == "ge2e":
        return DVector()
    return Statistics(StatisticsSettings()) if name == "ge2e-statistics" else Course(Ge2e(), 1, 8)


def _on_device(embedder: Embedder, name: str, sha: str, device: str) -> SpeakerEncoder:
    place = chosen_device(device)
    embedder = embedder.to(place).eval().requires_grad_(False)
    seconds = embedder.batch_seconds * (1 if place.type == "cpu" else 16)  # a GPU wants much at once
    return SpeakerEncoder(name, sha, embedder, place, seconds, embedder.longest_seconds)


def _sha256(embedder: Embedder, settings: str = "") -> str:
    parts = embedder.front_end.sha256 + settings + weights_sha256(embedder)
    return hashlib.sha256(parts.encode()).hexdigest()
