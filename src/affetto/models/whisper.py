"""Whisper's encoder at the length of each utterance, and the first blocks of one from a folder."""

import math
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError
from affetto.features import FrontEnd
from affetto.features.mel import band_powers, filterbank
from affetto.models.checkpoint import SHIPPED_FOLDER, WEIGHTS, fill, read_tensors
from affetto.models.encoder import EncoderShape, Frames, PublishedEncoder, cleared, frame_mask

ENCODER_WEIGHTS = "encoder.safetensors"
_OWN = "small"  # the folder that comes with affetto
_INPUTS = {"chunk_length": 30, "hop_length": 160, "n_fft": 400}  # of all models of Radford et al.


class WhisperEncoder(PublishedEncoder):
    """Whisper's encoder (Radford et al. 2023) on its own log-mel, at the length of each utterance.

    One that is longer than the windows of its training, 30 s, goes through in parts of at most that length.
    """

    batch_seconds = 24.0
    lower_layers = 2

    def __init__(self, network: Any, width: int, inputs: dict[str, Any], window: int = 0) -> None:
        super().__init__()
        self.network = network
        self.window, self.most = window, inputs["chunk_length"]
        self.front_end = FrontEnd(kind="waveform")
        self.dim = int(width)
        self.layer_dims = (self.dim,) * (len(network.layers) + 1)
        self.longest = (window or self.most) * SAMPLE_RATE  # samples that go through at once
        self.step, self.size, self.bins = inputs["hop_length"], inputs["n_fft"], inputs["feature_size"]
        self.hop = 2 * self.step
        self.hop_seconds = self.hop / SAMPLE_RATE

    @property
    def in_order(self) -> list[nn.Module]:
        """The Transformer layers."""
        return list(self.network.layers)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes waveforms ``(B, S, 1)``; one frame for every ``hop_seconds``."""
        # Widths are those of the batch and counts stay on the device: nothing here waits for it.
        waveforms = cleared(features, lengths)[:, :, 0]
        parts = [
            self.encoded(waveforms[:, start : start + self.longest], (lengths - start).clamp_min(0))
            for start in range(0, features.shape[1], self.longest)
        ]
        return _joined(parts, (lengths + self.hop - 1) // self.hop)

    def completed(self, lower: Frames) -> Frames:
        """Returns all layers, from those below the blocks that learn."""
        longest, read = self.longest // self.hop, lower.layers[-1]
        parts = []
        for start in range(0, read.shape[1], longest):
            part = read[:, start : start + longest]
            hearing = hearing_mask((lower.lengths - start).clamp_min(1), part.shape[1])
            parts.append(self._through(part, hearing, self.fixed_layers - 1)[1:])
        upper = _joined(parts, lower.lengths)
        return upper._replace(layers=(*lower.layers, *upper.layers))

    def encoded(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """Returns every layer ``(B, T, D)`` of a part ``(B, S)`` with zeros past its lengths."""
        width, hearing = waveforms.shape[1], None
        mask: Tensor | float = 1.0
        if self.window:
            waveforms = F.pad(waveforms, (0, self.longest - width))
        spectra = self.spectra(waveforms)
        if not self.window:
            mask = frame_mask((lengths + self.step - 1) // self.step, spectra.shape[1])
        # Past its end an utterance meets zeros in the convolutions, as if it were alone.
        values = F.gelu(self.network.conv1((spectra * mask).mT)).mT
        values = F.gelu(self.network.conv2((values * mask).mT)).mT
        if not self.window:
            # What begins past the end of an utterance attends to its first frame, so that it is a number.
            hearing = hearing_mask((lengths.clamp_min(1) + self.hop - 1) // self.hop, values.shape[1])
        values = values + self.network.embed_positions.weight.narrow(0, 0, values.shape[1])
        values = F.dropout(values, self.network.dropout, self.training)
        layers = self._through(values, hearing, 0)
        return [layer[:, : -(-width // self.hop)] for layer in layers] if self.window else layers

    def _through(self, values: Tensor, hearing: Tensor | None, first: int) -> list[Tensor]:
        """Returns ``values (B, T, D)`` and what the blocks from the ``first`` on make of them."""
        layers = [values]
        for block in self.network.layers[first:]:
            layers.append(block(layers[-1], hearing))
        return [*layers[:-1], self.network.layer_norm(layers[-1])]

    @torch.no_grad()
    def spectra(self, waveforms: Tensor) -> Tensor:
        """Returns the log-mel ``(B, ceil(S / hop), bins)`` of waveforms ``(B, S)`` that silence follows."""
        # As in Radford et al.: the beginning is mirrored, silence lasts until the end of the longest window,
        # which is mirrored too, and nothing is more than 8 below the utterance's highest decade.
        device, width = waveforms.device, waveforms.shape[1]
        limits = (0.0, SAMPLE_RATE / 2)
        weights, _ = filterbank(self.size, self.size, SAMPLE_RATE, limits, self.bins, None, device)
        taper = torch.hann_window(self.size, device=device)  # rounded as there, which quiet bands show
        with torch.autocast(device.type, enabled=False):
            most = self.most * SAMPLE_RATE
            padded = F.pad(waveforms.float(), (0, min(2 * self.size, most - width)))
            padded = F.pad(padded, (self.size // 2, self.size // 2), "reflect")
            frames = padded.unfold(1, self.size, self.step)[:, : most // self.step]
            decades = band_powers(frames, taper, weights, self.size, None, None).clamp_min(1e-10).log10()
            floored = torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8)
            return (floored[:, : -(-width // self.step)] + 4) / 4


class WhisperBlocksSettings(EncoderShape):
    """Shape of :class:`WhisperBlocks`; the default is what comes with affetto."""

    name: Literal["whisper-blocks"] = "whisper-blocks"
    # A folder with weights of this shape, in encoder.safetensors or, as published, in model.safetensors.
    model: str = Field(_OWN, repr=False)
    blocks: int = Field(2, ge=1)
    width: int = Field(512, ge=8, multiple_of=2)  # D, of every block
    heads: int = Field(8, ge=1)  # of the attention; they divide the width
    feed_forward: int = Field(2048, ge=8)  # hidden width of a block's two pointwise layers
    bins: int = Field(80, ge=8)  # mel bands

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class WhisperBlocks(WhisperEncoder):
    """The two convolutions and the first blocks of a Whisper, without its last norm; needs no transformers.

    Layers are the input of the first block, and the output of every block.
    """

    def __init__(self, settings: WhisperBlocksSettings | None = None) -> None:
        settings = settings or WhisperBlocksSettings()
        inputs = {**_INPUTS, "feature_size": settings.bins}
        super().__init__(_Network(settings), settings.width, inputs)
        self.settings = settings

    def load_published(self) -> None:
        """Fills the encoder with the weights of the model's folder."""
        model = self.settings.model
        folder = SHIPPED_FOLDER / model if model == _OWN else Path(model)
        file = next((folder / name for name in (ENCODER_WEIGHTS, WEIGHTS) if (folder / name).is_file()), None)
        if file is None:
            raise CheckpointError(
                f"{folder} holds neither {ENCODER_WEIGHTS} nor {WEIGHTS}; name the folder of a Whisper model"
            )
        # Published names go on after "encoder."; those of the decoder are of no use here.
        found = {
            name.rpartition("encoder.")[2]: tensor
            for name, tensor in whole_numbers_undone(read_tensors(file)).items()
            if "decoder." not in name
        }
        wanted = self.network.state_dict()
        fill(self.network, {name: found[name] for name in wanted if name in found}, file)


def in_whole_numbers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors of which matrices and filters are 8-bit numbers, with a scale a row ``NAME.scale``."""
    kept = {}
    for name, tensor in tensors.items():
        kept[name] = tensor
        if tensor.ndim > 1:
            rows = tensor.flatten(1)
            scale = rows.abs().amax(1).clamp_min(1e-12) / 127
            kept[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(tensor.shape)
            kept[f"{name}.scale"] = scale
    return kept


def whole_numbers_undone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the floating-point tensors that :func:`in_whole_numbers` was given, rounded."""
    scales = {name: tensors[f"{name}.scale"] for name in tensors if f"{name}.scale" in tensors}
    return {
        name: tensor.float() * scales[name].view(-1, *[1] * (tensor.ndim - 1))
        if name in scales
        else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith(".scale")
    }


class _Network(nn.Module):
    """The parts of a Whisper, under the names that its weights have."""

    dropout = 0.0

    def __init__(self, settings: WhisperBlocksSettings) -> None:
        super().__init__()
        width = settings.width
        self.conv1 = nn.Conv1d(settings.bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = _Positions(50 * _INPUTS["chunk_length"], width)
        self.layers = nn.ModuleList(_Block(settings) for _ in range(settings.blocks))
        self.layer_norm = nn.Identity()


class _Positions(nn.Module):
    """Sines and cosines of each place, ``(T, D)``."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        half = width // 2
        speeds = torch.exp(torch.arange(half) * (-math.log(10_000.0) / max(half - 1, 1)))
        angles = torch.arange(frames)[:, None] * speeds
        self.weight = nn.Buffer(torch.cat([angles.sin(), angles.cos()], 1), persistent=False)


class _Block(nn.Module):
    """Self-attention and two pointwise layers, each of which reads a norm of its input and is added to it."""

    def __init__(self, settings: WhisperBlocksSettings) -> None:
        super().__init__()
        width = settings.width
        self.self_attn = Attention(width, settings.heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, settings.feed_forward)
        self.fc2 = nn.Linear(settings.feed_forward, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor, hearing: Tensor | None) -> Tensor:
        """Maps ``frames (B, T, D)`` to the same shape; ``hearing`` as :func:`hearing_mask` gives it."""
        frames = frames + self.self_attn(self.self_attn_layer_norm(frames), hearing)
        return torch.as_tensor(frames + self.fc2(F.gelu(self.fc1(self.final_layer_norm(frames)))))


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(3))
        self.k_proj = nn.Linear(width, width, bias=False)

    def forward(self, frames: Tensor, hearing: Tensor | None) -> Tensor:
        """Maps ``frames (B, T, D)`` to the same shape; ``hearing`` as :func:`hearing_mask` gives it."""
        query, key, value = (
            project(frames).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=hearing)
        return torch.as_tensor(self.out_proj(heads.transpose(1, 2).flatten(2)))


def _joined(parts: list[list[Tensor]], counts: Tensor) -> Frames:
    """Joins the layers of parts that follow each other."""
    joined = [torch.cat(layer, 1) for layer in zip(*parts, strict=True)]
    mask = frame_mask(counts, joined[0].shape[1])
    return Frames(tuple(layer * mask for layer in joined), counts)


def hearing_mask(counts: Tensor, frames: int) -> Tensor:
    """Returns which of the frames attention looks at, ``(B, 1, 1, T)``, the same for each of them."""
    # PyTorch 2.6 attends to wrong frames on a CPU where this is expanded to (B, 1, T, T).
    return frame_mask(counts, frames).bool().mT[:, None]
