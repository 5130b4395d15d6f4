"""Whether a recording holds speech: a small network on how spectrum and pitch change, with its weights."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from affetto.audio import SAMPLE_RATE
from affetto.features import FrontEnd
from affetto.features.front_end import without_offset

LEAST_SECONDS, MOST_SECONDS = 0.2, 4.0
"""A shorter recording is no speech; a longer one holds some if a part of it does."""

_FILE = Path(__file__).with_name("speech.safetensors")  # written by experiments/speech.py
_BANDS, _CEPSTRA, _HIDDEN = 40, 13, 12
_FRONT_END = FrontEnd(bins=_BANDS, pitch=True)
_LAGS, _PITCH_LAGS = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8)  # frames of 10 ms
_RANGE = 9.2  # of log power under the loudest band that counts: 40 dB
_STRENGTHS = (0.3, 0.5, 0.7, 0.85)  # of voicing
_VOICED, _STEADY, _LEAP, _MOST = 0.5, 0.004, 0.1, 0.3  # strength; steps of the log frequency
_LIMIT = 2.5  # standard deviations


class SpeechDetector(nn.Module):
    """Scores waveforms as speech or not, whatever their level."""

    dim = len(_LAGS) * _CEPSTRA + len(_STRENGTHS) + 3 * len(_PITCH_LAGS)

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(self.dim))
        self.deviation = nn.Buffer(torch.ones(self.dim))
        self.hidden = nn.Linear(self.dim, _HIDDEN)
        self.score = nn.Linear(_HIDDEN, 1)

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Describes waveforms ``(B, S)`` of ``lengths (B,)``: ``(B, D)``.

        For steps of 10 to 320 ms these are the log of the mean square change of each cepstrum; then the
        shares of frames by voicing strength; and for steps of 10 to 80 ms between voiced frames the mean
        change of the log frequency, and the shares of steps that are hardly any, and of leaps.
        """
        frames, counts = _FRONT_END(waveforms, lengths)
        times = torch.arange(frames.shape[1], device=frames.device)
        mask = times < counts[:, None]
        bands, pitch, strength = frames[:, :, :_BANDS], frames[:, :, -2], frames[:, :, -1]
        loudest = bands.amax(2).masked_fill(~mask, -torch.inf).amax(1)
        cepstra = torch.maximum(bands, loudest[:, None, None] - _RANGE) @ _cosines(bands.device)
        columns = []
        for lag in _LAGS:
            pairs = mask[:, lag:, None]
            squares = (cepstra[:, lag:] - cepstra[:, :-lag]).square() * pairs
            columns.append((squares.sum(1) / pairs.sum(1).clamp_min(1) + 1e-3).log())
        shares = [((strength > least) & mask).sum(1) / counts for least in _STRENGTHS]
        voiced = (strength >= _VOICED) & mask
        for lag in _PITCH_LAGS:
            pairs = voiced[:, lag:] & voiced[:, :-lag]
            steps, number = (pitch[:, lag:] - pitch[:, :-lag]).abs().clamp_max(_MOST), pairs.sum(1)
            shares.append((((steps * pairs).sum(1) + 0.05) / (number + 1)).log())
            for part in (steps < _STEADY, steps > _LEAP):
                shares.append(((part & pairs).sum(1) + 0.5) / (number + 2))
        return torch.cat([*columns, torch.stack(shares, 1)], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Scores features ``(B, D)``: above 0 for speech, ``(B,)``."""
        values = ((features - self.mean) / self.deviation).clamp(-_LIMIT, _LIMIT)
        return torch.as_tensor(self.score(self.hidden(values).relu()))[:, 0]

    def hears(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Whether each of ``waveforms (B, S)``, zero past their ``lengths (B,)``, holds speech, ``(B,)``."""
        size, found = round(MOST_SECONDS * SAMPLE_RATE), torch.zeros_like(lengths, dtype=torch.bool)
        for start in range(0, waveforms.shape[1], size):
            own = (lengths - start).clamp(0, size)
            part = without_offset(waveforms[:, start : start + size], own)
            scores = self(self.features(part, own))
            found |= (scores > 0) & (own >= LEAST_SECONDS * SAMPLE_RATE)
        return found


def _cosines(device: torch.device) -> Tensor:
    """Returns the transform of bands into cepstra, ``(bands, cepstra)``, scaled to means over bands."""
    places = (torch.arange(_BANDS, device=device) + 0.5)[:, None] * torch.arange(_CEPSTRA, device=device)
    return (math.pi / _BANDS * places).cos() * math.sqrt(2) / _BANDS


def load_speech_detector() -> SpeechDetector:
    """Loads the detector with the weights that come with the package."""
    detector = SpeechDetector()
    detector.load_state_dict(load_file(_FILE))
    return detector.eval().requires_grad_(False)
