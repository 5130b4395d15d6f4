"""The network of a recogniser in operations that ONNX has, for any length and any number of waveforms."""

import copy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.audio import SAMPLE_RATE
from affetto.errors import ConfigError
from affetto.features import FrontEnd
from affetto.features.front_end import KALDI_FLOOR, KALDI_REST, MEL_FLOOR, at_level, normalised, slopes
from affetto.features.mel import filterbank
from affetto.models.classifier import EmotionClassifier
from affetto.models.embedders import Functionals
from affetto.models.encoder import Frames, frame_mask
from affetto.models.ge2e import DVector
from affetto.models.registry import ENCODERS
from affetto.models.whisper import Attention, WhisperEncoder

_CPU = torch.device("cpu")
_NEVER = 1e4  # what is taken off the score of a frame that attention must not look at
_WITHOUT = ("wav2vec2", "ge2e", "ge2e-spectrum")  # encoders that torch.export cannot follow for any length


class Bands(nn.Module):
    """Power in mel bands of samples ``(B, S)``, ``(B, T, bins)``: a convolution with cosines and sines.

    ``tapers (W, W)`` make of a frame what is transformed, ``size`` is the length of the transform.
    """

    def __init__(self, tapers: NDArray[np.float64], size: int, hop: int, weights: Tensor) -> None:
        super().__init__()
        self.hop = hop
        angles = 2 * np.pi / size * np.outer(np.arange(size // 2 + 1), np.arange(len(tapers)))
        waves = np.concatenate([np.cos(angles), np.sin(angles)]) @ tapers
        self.waves = nn.Buffer(torch.tensor(waves[:, None]).float())
        self.weights = nn.Buffer(weights.clone())

    def forward(self, samples: Tensor) -> Tensor:
        """Returns the bands of every frame within the samples."""
        real, imaginary = F.conv1d(samples[:, None], self.waves, stride=self.hop).square().chunk(2, dim=1)
        return (real + imaginary).mT @ self.weights


class TracedFrontEnd(nn.Module):
    """What a :class:`~affetto.features.FrontEnd` without pitch does."""

    def __init__(self, settings: FrontEnd) -> None:
        super().__init__()
        self.settings = settings
        self.kind, self.cmvn, self.tail_frames = settings.kind, settings.cmvn, settings.tail_frames
        if self.kind == "waveform":
            return
        window, kaldi = settings.window, self.kind == "fbank"
        size, taper = (1 << (window - 1).bit_length(), settings.taper) if kaldi else (window, None)
        of = (window, size, settings.rate, settings.band_hz, settings.bins, taper, _CPU)
        weights, shape = filterbank(*of)
        tapers = np.diag(shape.double().numpy())
        self.bands = Bands(tapers @ _emphasis(window) if kaldi else tapers, size, settings.hop, weights)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turns waveforms ``(B, S)`` of ``lengths (B,)`` into features ``(B, T, F)`` and their counts."""
        inside = torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]
        samples = torch.where(inside, waveforms, 0.0)
        if self.settings.level_db is not None:
            samples = at_level(samples, lengths, self.settings.level_db, self.settings.levelled)
        counts = self.settings.frame_counts(lengths)
        if self.kind == "waveform":
            missing = torch.sym_max(0, self.settings.window - samples.shape[1])  # type: ignore[no-untyped-call]
            return F.pad(samples, (0, missing))[:, :, None], counts
        columns = [self._columns(samples)]
        mask = frame_mask(counts, columns[0].shape[1])
        inside = mask[:, :, 0].bool()
        for _ in range(self.settings.deltas):
            columns.append(slopes(columns[-1], inside, counts))
        features = torch.cat(columns, dim=2)
        return (normalised(features, inside, counts) if self.cmvn else features) * mask, counts

    def _columns(self, samples: Tensor) -> Tensor:
        """Returns the columns before deltas and normalisation."""
        window = self.settings.window
        left = 0 if self.kind == "fbank" else window // 2
        powers = self.bands(F.pad(samples, (left, window - left + self.tail_frames * self.settings.hop)))
        if self.kind == "mel":
            return torch.as_tensor(powers)
        return torch.as_tensor(powers.clamp_min(KALDI_FLOOR if self.kind == "fbank" else MEL_FLOOR).log())


def _emphasis(size: int) -> NDArray[np.float64]:
    """Returns pre-emphasis and the removal of the constant as one matrix on a frame, ``(size, size)``."""
    steps = np.eye(size) - (1 - KALDI_REST) * np.eye(size, k=-1)
    steps[0, 0] = KALDI_REST
    return np.asarray(steps - KALDI_REST / size)


def traceable(classifier: EmotionClassifier) -> EmotionClassifier:
    """Returns a copy on the CPU that ``torch.export`` can follow for any batch and length.

    Raises:
        ConfigError: for a recogniser with a part that cannot be followed.
    """
    traced = copy.deepcopy(classifier).cpu().eval()
    for part in list(traced.modules()):
        name = _unfollowed(part)
        if name:
            able = [each for each in ENCODERS if each not in _WITHOUT]
            message = f"{name} cannot be exported to ONNX; recognisers on these can: {', '.join(able)}"
            raise ConfigError(message)
        if isinstance(front_end := getattr(part, "front_end", None), FrontEnd):
            part.front_end = TracedFrontEnd(front_end)
        # The methods of this copy are replaced; torch.export follows the new ones.
        if isinstance(part, WhisperEncoder):
            of = (part.size, part.size, SAMPLE_RATE, (0.0, SAMPLE_RATE / 2), part.bins, None, _CPU)
            taper = np.diag(torch.hann_window(part.size).double().numpy())
            bands = Bands(taper, part.size, part.step, filterbank(*of)[0])
            part.bands = bands
            part.spectra = partial(_spectra, part, bands)  # type: ignore[method-assign]
            part.forward = partial(_in_parts, part)  # type: ignore[method-assign]
        if isinstance(part, Attention):
            part.forward = partial(_attended, part)  # type: ignore[method-assign]
    return traced


def _unfollowed(part: nn.Module) -> str:
    """Returns the name of a part that cannot be followed, else nothing."""
    if isinstance(part, Functionals):
        return "functionals"
    if isinstance(part, DVector):
        return "d-vector"
    name = str(getattr(getattr(part, "settings", None), "name", ""))
    return name if name in _WITHOUT else ""


def _in_parts(encoder: WhisperEncoder, features: Tensor, lengths: Tensor) -> Frames:
    """Encodes waveforms ``(B, S, 1)`` as :class:`WhisperEncoder`, all parts of all of them at once."""
    waveforms, hop = features.squeeze(2), encoder.hop  # zero past their ends: the traced front end's
    rows, width = waveforms.shape
    frames = torch.sym_max((width + hop - 1) // hop, 2)  # type: ignore[no-untyped-call]
    size = torch.sym_min(frames, encoder.longest // hop)  # type: ignore[no-untyped-call]
    count = (frames + size - 1) // size
    parts = F.pad(waveforms, (0, count * size * hop - width)).reshape(rows * count, size * hop)
    starts = torch.arange(count, device=lengths.device) * size * hop
    layers = encoder.encoded(parts, (lengths[:, None] - starts).clamp(0, encoder.longest).reshape(-1))
    layers = [layer.reshape(rows, count * layer.shape[1], layer.shape[2]) for layer in layers]
    counts = (lengths + hop - 1) // hop
    mask = frame_mask(counts, layers[0].shape[1])
    return Frames(tuple(layer * mask for layer in layers), counts)


def _spectra(encoder: WhisperEncoder, bands: Bands, waveforms: Tensor) -> Tensor:
    """Returns the log-mel of waveforms ``(B, T * hop)`` as ``WhisperEncoder.spectra``."""
    half, most = encoder.size // 2, encoder.most * SAMPLE_RATE
    longest = (torch.full((1,), waveforms.shape[1], device=waveforms.device) == most).float()
    # The beginning is mirrored; the end only of the longest, else silence follows.
    first, last = waveforms[:, 1 : half + 1].flip(1), waveforms[:, -half - 1 : -1].flip(1)
    decades = bands(torch.cat([first, waveforms, last * longest], 1)).clamp_min(1e-10).log10()
    inside, after = decades[:, :-1], decades[:, -1:] - 1000 * longest
    highest = torch.maximum(inside.amax((1, 2), keepdim=True), after.amax((1, 2), keepdim=True))
    return torch.as_tensor((torch.maximum(inside, highest - 8) + 4) / 4)


def _attended(attention: Attention, frames: Tensor, hearing: Tensor) -> Tensor:
    """Does what an attention does, step by step, since its ONNX form looks for rows without any number."""
    query, key, value = (
        project(frames).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    unseen = _NEVER * (hearing[:, :, :1].float() - 1)
    shares = ((query * query.shape[3] ** -0.5) @ key.mT + unseen).softmax(3)
    return torch.as_tensor(attention.out_proj((shares @ value).transpose(1, 2).flatten(2)))
