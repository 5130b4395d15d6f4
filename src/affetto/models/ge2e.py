"""The GE2E speaker encoder of Wan et al. (2018), with the weights that the Resemblyzer package carries.

The package itself is never imported: its import needs parts of setuptools that no longer exist. Only its
weight file is read, without unpickling anything but tensors.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.errors import CheckpointError, MissingPackageError
from affetto.features import FrontEnd
from affetto.models.encoder import (
    Embedder,
    Encoder,
    EncoderShape,
    Frames,
    PublishedEncoder,
    cleared,
    normalise_logmel,
    stacked,
    with_company,
)

# Input of the published weights: power in 40 mel bands, not its log; quiet speech raised to -30 dB.
FRONT_END = FrontEnd(kind="mel", bins=40, window_seconds=0.025, hop_seconds=0.010, level_db=-30.0)
PARTIAL_FRAMES = 160
PARTIAL_STEP = 77  # 1.3 partial windows a second
MINIMUM_COVERAGE = 0.75
_CPU_WINDOWS = 96  # so many states and one layer's weights stay in the processor's cache
_GPU_WINDOWS = 8192


class Ge2eSettings(EncoderShape):
    """Shape of :class:`Ge2e`."""

    name: Literal["ge2e"] = "ge2e"
    stride: int = Field(4, ge=1)  # 10 ms frames that are averaged into one
    hidden: int = Field(256, ge=4)  # width of each of the three layers; the published weights have 256


class Ge2e(PublishedEncoder):
    """Three LSTM layers over mel power; all three come out, averaged over ``stride`` frames.

    The layers run forward in time only, so that padding at the end cannot change an answer.
    """

    tells_speakers = True

    def __init__(self, settings: Ge2eSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or Ge2eSettings()
        self.front_end = FRONT_END
        self.hop_seconds = settings.stride * FRONT_END.hop_seconds
        self.centre_seconds = (settings.stride - 1) / 2 * FRONT_END.hop_seconds
        self.dim = settings.hidden
        self.layer_dims = (settings.hidden,) * 3
        self.lstms = nn.ModuleList(
            nn.LSTM(FRONT_END.bins if layer == 0 else settings.hidden, settings.hidden, batch_first=True)
            for layer in range(3)
        )
        self.projection = nn.Linear(settings.hidden, settings.hidden)

    def hidden_layers(self, features: Tensor) -> list[Tensor]:
        """Returns the three layers at full rate, each ``(B, T, D)``."""
        layers = []
        for lstm in self.lstms:
            features, _ = lstm(features)
            layers.append(features)
        return layers

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes mel ``features (B, T, F)``; ``T' = ceil(T / stride)``."""
        stride = self.settings.stride
        counts, shorter = stacked(torch.ones_like(features[:, :, :1]), lengths, stride)
        counts = counts.sum(2, keepdim=True).clamp_min(1.0)
        grouped = (stacked(layer, lengths, stride)[0] for layer in self.hidden_layers(features))
        layers = tuple(each.reshape(len(each), -1, stride, self.dim).sum(2) / counts for each in grouped)
        return Frames(layers, shorter)

    def load_published(self) -> None:
        """Fills in the weights of the installed Resemblyzer package."""
        own: dict[str, Tensor] = {}
        for name, tensor in published_weights().items():
            part, _, kind = name.partition(".")
            if part == "lstm":
                kind, layer = kind.rsplit("_l", 1)
                own[f"lstms.{layer}.{kind}_l0"] = tensor
            elif part == "linear":
                own[f"projection.{kind}"] = tensor
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"the weights of Resemblyzer do not fit this encoder: {error}") from error


class Ge2eSpectrumSettings(EncoderShape):
    """Shape of :class:`Ge2eSpectrum`."""

    name: Literal["ge2e-spectrum"] = "ge2e-spectrum"
    stride: int = Field(4, ge=1)  # 10 ms frames that make one
    hidden: int = Field(256, ge=4)  # width of each LSTM layer
    bins: int = Field(80, ge=8)  # mel bands of the spectrum


class Ge2eSpectrum(Encoder):
    """The layers of :class:`Ge2e` and the log-mel spectrum of the same moments.

    Training on speaker identity discards some of what carries emotion; the spectrum still has it. Layers are
    the three of the LSTM, and ``stride`` log-mel frames joined to one. Reads the waveform.
    """

    def __init__(self, settings: Ge2eSpectrumSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or Ge2eSpectrumSettings()
        self.speaker = Ge2e(Ge2eSettings(stride=settings.stride, hidden=settings.hidden))
        self.spectrum = FrontEnd(kind="logmel", bins=settings.bins)
        self.front_end = FrontEnd(kind="waveform")
        self.hop_seconds, self.centre_seconds = self.speaker.hop_seconds, self.speaker.centre_seconds
        self.dim = settings.stride * settings.bins
        self.layer_dims = (*self.speaker.layer_dims, self.dim)
        self.level_layers = (3,)

    def forward(self, features: Tensor, lengths: Tensor) -> Frames:
        """Encodes waveforms ``(B, S, 1)``; ``T' = ceil(T / stride)``."""
        waveforms = features.squeeze(-1)
        voice = self.speaker(*self.speaker.front_end(waveforms, lengths))
        mel, frames = self.spectrum(waveforms, lengths)
        spectrum, _ = stacked(normalise_logmel(mel), frames, self.settings.stride)
        return Frames((*voice.layers, spectrum), voice.lengths)


class DVector(Embedder):
    """The speaker embedding (d-vector) of an utterance, as Resemblyzer computes it, ``D = 256``.

    Windows of 1.6 s, 0.77 s apart; a last one of which speech covers less than three quarters is left out
    unless it is the only one. Each window's last state is projected, rectified and normalised, and their mean
    is normalised. Resemblyzer also shortens long pauses first; this does not. The last window ends in zeros:
    two frames that still overlap the speech, and silence.
    """

    tells_speakers = True

    def __init__(self, settings: Ge2eSettings | None = None) -> None:
        super().__init__()
        self.encoder = Ge2e(settings)
        self.front_end = FRONT_END.model_copy(update={"tail_frames": 2})
        self.dim = self.encoder.dim

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds mel ``features (B, T, F)`` as unit vectors ``(B, D)``."""
        starts = [_partial_starts(frames - self.front_end.tail_frames) for frames in lengths.tolist()]
        need = max(row[-1] for row in starts) + PARTIAL_FRAMES
        features = F.pad(features, (0, 0, 0, max(0, need - features.shape[1])))
        features = cleared(features, lengths)
        windows = [(row, start) for row, own in enumerate(starts) for start in own]
        together = torch.tensor(windows, device=features.device)
        # Of about equal size: the last digits of a window that goes alone may differ.
        most = _GPU_WINDOWS if features.is_cuda else _CPU_WINDOWS
        parts = torch.tensor_split(together, -(-len(together) // most))
        vectors = torch.cat([self._windows(features, *part.T) for part in parts])
        owners = together[:, 0]
        sums = torch.zeros(len(lengths), self.dim, device=vectors.device).index_add_(0, owners, vectors)
        return F.normalize(sums, dim=1)

    def _windows(self, features: Tensor, owners: Tensor, first: Tensor) -> Tensor:
        """Embeds windows ``(W, D)`` of the utterances ``owners``, which begin at the frames ``first``."""
        positions = first[:, None] + torch.arange(PARTIAL_FRAMES, device=features.device)
        last = self.encoder.hidden_layers(features[owners[:, None], positions])[-1][:, -1]
        return F.normalize(torch.relu(with_company(self.encoder.projection, last)), dim=1)


def published_weights() -> dict[str, Tensor]:
    """Returns the tensors of Resemblyzer's weight file; see :meth:`Ge2e.load_published` for errors."""
    try:
        files = distribution("Resemblyzer").files or []
    except PackageNotFoundError as error:
        raise MissingPackageError(
            "the ge2e weights come with the Resemblyzer package, which is not installed; "
            "install it with: pip install --no-deps Resemblyzer==0.1.4"
        ) from error
    paths = [Path(str(file.locate())) for file in files if file.name == "pretrained.pt"]
    if not paths or not paths[0].is_file():
        raise CheckpointError("the installed Resemblyzer holds no pretrained.pt; reinstall it")
    try:
        content = torch.load(paths[0], map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for what is no file of tensors
        raise CheckpointError(f"{paths[0]} cannot be read: {error}; reinstall Resemblyzer") from error
    return {name: tensor.float() for name, tensor in content["model_state"].items()}


def _partial_starts(frames: int) -> list[int]:
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + PARTIAL_STEP + 1), PARTIAL_STEP))
    covered = (frames - 1 - starts[-1]) / PARTIAL_FRAMES
    if covered < MINIMUM_COVERAGE and len(starts) > 1:
        starts.pop()
    return starts


class Course(Embedder):
    """Content: means of an encoder's layer over equal parts of an utterance, minus the mean of the whole.

    Voice and mood mostly last from the beginning of an utterance to its end and cancel; the sounds in their
    order remain. Utterances of the same sentence have similar vectors. ``D = parts * layer_dims[layer]``.
    """

    def __init__(self, encoder: Encoder, layer: int, parts: int) -> None:
        super().__init__()
        self.encoder, self.layer, self.parts = encoder, layer, parts
        self.settings = (layer, parts)
        self.front_end = encoder.front_end
        self.dim = parts * encoder.layer_dims[layer]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` as ``(B, D)``."""
        frames = self.encoder(features, lengths)
        values = frames.layers[self.layer]
        part = frames.lengths[:, None, None] / self.parts  # in frames; edges fall within frames
        ends = torch.arange(1, self.parts + 1, device=values.device)[:, None] * part
        begin = torch.arange(values.shape[1], device=values.device)
        shares = (torch.minimum(ends, begin + 1) - torch.maximum(ends - part, begin)).clamp_min(0)
        means = shares @ values / part
        return torch.as_tensor((means - means.mean(1, keepdim=True)).flatten(1))
