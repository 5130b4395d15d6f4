"""The interface of the HEAR benchmark, so that its evaluation takes any encoder of affetto.

``python -m heareval.embeddings.runner affetto.hear --model FOLDER``; the interface is described at
https://hearbenchmark.com/hear-api.html (Turian et al. 2022).
"""

import torch
from torch import Tensor, nn

from affetto.audio import SAMPLE_RATE
from affetto.errors import ConfigError
from affetto.inference.loading import load_representation
from affetto.models.representation import Layer

_TOGETHER_SECONDS = 120.0  # of sound that go through the network at once, unless one sound is longer


class HearModel(nn.Module):
    """A representation with the attributes that HEAR's evaluation reads; a size is 0 without frames."""

    def __init__(self, model_file_path: str, layer: Layer | None = None) -> None:
        super().__init__()
        self.representation = load_representation(model_file_path, layer)
        self.sample_rate = SAMPLE_RATE
        self.scene_embedding_size = self.representation.dim
        self.timestamp_embedding_size = self.representation.frame_dim
        self.register_buffer("place", torch.zeros(()), persistent=False)  # follows the model to its device
        self.place: Tensor

    def forward(self, audio: Tensor) -> Tensor:
        """Embeds sounds ``(B, S)`` as ``(B, D)``; see :func:`get_scene_embeddings`."""
        return get_scene_embeddings(audio, self)


def load_model(model_file_path: str = "", layer: Layer | None = None) -> HearModel:
    """Loads an encoder: a folder that ``pretrain`` or ``finetune`` wrote, or a name such as ``"ge2e"``.

    The layer is a number, ``"last"``, ``"mean"`` or ``"all"``; None is the last, or what a recogniser reads.
    """
    if not model_file_path:
        raise ConfigError(
            "load_model needs the folder of an encoder: affetto brings none; name one that affetto pretrain "
            "or finetune wrote, or an encoder such as 'ge2e'"
        )
    return HearModel(str(model_file_path), layer)


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeds sounds ``(B, S)``, mono at ``model.sample_rate``, in ±1, frame by frame.

    Returns embeddings ``(B, T, D)`` float32, and the time of each frame in milliseconds, ``(B, T)``. A last
    frame whose time is past the end is left out.
    """
    model.representation.must_have_frames()
    encoder = model.representation.encoder
    assert encoder is not None
    parts = [model.representation.frames(*batch)[0].float() for batch in _batches(audio, model)]
    embeddings = torch.cat(parts)
    frames = torch.arange(embeddings.shape[1], dtype=torch.float64)
    seconds = encoder.centre_seconds + encoder.hop_seconds * frames
    inside = max(1, int((seconds <= audio.shape[1] / SAMPLE_RATE).sum()))
    moments = (1000 * seconds[:inside]).float().to(embeddings.device)
    return embeddings[:, :inside], moments.expand(len(embeddings), -1).contiguous()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Embeds sounds ``(B, S)``, mono at ``model.sample_rate``, in ±1, as ``(B, D)`` float32."""
    return torch.cat([model.representation(*batch).float() for batch in _batches(audio, model)])


def _batches(audio: Tensor, model: HearModel) -> list[tuple[Tensor, Tensor]]:
    """Cuts sounds ``(B, S)`` into batches, each with the lengths of its sounds."""
    if audio.ndim != 2 or not audio.numel() or not audio.is_floating_point():
        raise ConfigError(
            f"got audio of shape {tuple(audio.shape)} and type {audio.dtype}; (sounds, samples) as floats "
            f"in ±1, {SAMPLE_RATE} a second, at least one sample, is needed"
        )
    together = max(1, int(_TOGETHER_SECONDS * SAMPLE_RATE) // audio.shape[1])
    sounds = audio.to(model.place.device, torch.float32)
    return [
        (batch, torch.full((len(batch),), batch.shape[1], device=batch.device))
        for batch in torch.split(sounds, together)
    ]
