"""The front end: log-mel and Kaldi filterbanks, deltas, normalisation, and the arithmetic of frames."""

import hashlib
import json
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from affetto.config import Settings
from affetto.features.mel import band_powers, filterbank
from affetto.features.pitch import PITCH_RATE, track_pitch

MEL_FLOOR = 1e-10
KALDI_FLOOR = float(np.finfo(np.float32).eps)
KALDI_REST = 1 - 0.97  # what pre-emphasis leaves of a constant
_BLOCK = 320  # samples whose powers are compared, 20 ms
_LOUD = 0.01  # the share of the highest power from which on all count
_LEAST = 1e-14  # a power that is only rounding, under the last of 24 bits


class FrontEnd(Settings):
    """A frozen, hashable description that turns waveforms into features.

    Frames of ``"mel"`` and ``"logmel"`` are centred on multiples of the hop, from sample 0 on, with zeros
    outside the utterance: ``T = 1 + S // hop``. Frames of ``"fbank"`` lie inside the utterance, as with
    Kaldi's ``snip_edges``, filled up with zeros to one window: ``T = 1 + max(0, S - window) // hop``.

    Attributes:
        kind: ``"waveform"``, the samples themselves, ``F = 1``; ``"mel"``, the power in triangular bands,
            equal to ``librosa.feature.melspectrogram`` (Slaney scale and norm, Hann window, zero padding);
            ``"logmel"``, its natural logarithm, floored at 1e-10; ``"fbank"``, Kaldi's log filterbank on
            samples in the 16-bit range (pre-emphasis 0.97, constant removed, no dither).
        window_seconds: length of a frame, and of its Fourier transform (``fbank``: the next power of two).
        hop_seconds: step between frames.
        bins: number of mel bands.
        low_hz: lower edge of the lowest band; None for 0, or for 20 in ``fbank``.
        high_hz: upper edge of the highest; None for half the sampling rate.
        deltas: orders of regression over two frames to each side to append, as Kaldi's ``add-deltas``.
        cmvn: whether each column is normalised to mean 0 and standard deviation 1 over its utterance.
        level_db: level in dB against full scale, e.g. -30, to which a quieter utterance is raised.
        levelled: whether a constant offset goes first, and louder utterances are lowered to the level too. It
            is then that of the parts that are at most 20 dB below the loudest 20 ms: pauses hardly count.
        pitch: whether to append, after deltas and normalisation, the natural log of the fundamental frequency
            in Hz (0 where the voicing strength is below ``VOICED``), and that strength, 0 to 1.
        rate: samples per second of the waveforms.
        taper: window of ``fbank``: Kaldi's own, or the Hamming window of WeSpeaker's models.
        tail_frames: how many more centred frames follow, past the end: two still see something of it.
    """

    kind: Literal["waveform", "mel", "logmel", "fbank"] = "logmel"
    window_seconds: float = Field(0.025, gt=0)
    hop_seconds: float = Field(0.010, gt=0)
    bins: int = Field(80, ge=1)
    low_hz: float | None = Field(None, ge=0)
    high_hz: float | None = Field(None, gt=0)
    deltas: int = Field(0, ge=0, le=3)
    cmvn: bool = False
    level_db: float | None = Field(None, le=0)
    levelled: bool = False
    pitch: bool = False
    rate: int = Field(16_000, ge=PITCH_RATE, multiple_of=PITCH_RATE)
    taper: Literal["povey", "hamming"] = "povey"
    tail_frames: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "FrontEnd":
        low, high = self.band_hz
        if not low < high <= self.rate / 2:
            raise ValueError(
                f"bands from {low:g} Hz to {high:g} Hz; they must rise and end by {self.rate / 2:g} Hz"
            )
        if min(self.window, self.hop) < 1:
            raise ValueError("window and hop must each be at least one sample long")
        if self.pitch and self.hop % (self.rate // PITCH_RATE):
            raise ValueError("with pitch, hop_seconds must be a multiple of 0.00025")
        if self.kind == "waveform" and (self.deltas or self.pitch):
            raise ValueError("the waveform itself takes neither deltas nor pitch")
        if self.tail_frames and (not self._centred or self.pitch):
            raise ValueError("frames past the end are for mel and logmel, without pitch")
        return self

    @property
    def window(self) -> int:
        """Samples in a frame."""
        return round(self.window_seconds * self.rate)

    @property
    def _size(self) -> int:
        return 1 << (self.window - 1).bit_length() if self.kind == "fbank" else self.window

    @property
    def hop(self) -> int:
        """Samples between frames; 1 for the waveform itself."""
        return 1 if self.kind == "waveform" else round(self.hop_seconds * self.rate)

    @property
    def frame_seconds(self) -> float:
        """Seconds between frames as they come out; for ``"waveform"`` that of one sample."""
        return self.hop / self.rate

    @property
    def band_hz(self) -> tuple[float, float]:
        """The edges of the bands, defaults filled in."""
        low = self.low_hz if self.low_hz is not None else (20.0 if self.kind == "fbank" else 0.0)
        return low, self.high_hz if self.high_hz is not None else self.rate / 2

    @property
    def dim(self) -> int:
        """Columns of a frame, ``F``."""
        if self.kind == "waveform":
            return 1
        return self.bins * (1 + self.deltas) + 2 * self.pitch

    @property
    def sha256(self) -> str:
        """Hash of the description, to name caches by."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def frame_count(self, samples: int) -> int:
        """Returns how many frames ``samples`` samples make."""
        return int(self.frame_counts(torch.tensor(samples)))

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Returns how many frames ``lengths (B,)`` samples make, ``(B,)``."""
        if self.kind == "waveform":
            return lengths.clamp_min(self.window)
        if self.kind == "fbank":
            return 1 + (lengths - self.window).clamp_min(0) // self.hop
        return 1 + lengths // self.hop + self.tail_frames

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turns waveforms ``(B, S)`` of ``lengths (B,)`` samples into features, on the device they are on.

        Samples past a length count as zeros, whatever they are. Returns features ``(B, T, F)`` float32, zero
        past the end of each, and their frames, ``(B,)``.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            left = self.window // 2 if self._centred else 0
            right = self.window - left if self._centred else max(0, self.window - waveforms.shape[1])
            right += self.tail_frames * self.hop
            padded = pad(waveforms.float(), (left, right))  # a copy in any case
            # As whole numbers, since 0 times NaN is NaN.
            padded.view(torch.int32).mul_(_inside(lengths + left, padded.shape[1], torch.int32))
            if self.level_db is not None:
                own = padded[:, left:]
                own.copy_(at_level(own, lengths, self.level_db, self.levelled))
            counts = self.frame_counts(lengths)
            features = self._spectra(padded)
            inside = _inside(counts, features.shape[1])
            mask = inside.bool()
            columns = [features]
            for _ in range(self.deltas):
                columns.append(slopes(columns[-1], mask, counts))
            features = torch.cat(columns, dim=2) if self.deltas else features
            if self.cmvn:
                features = normalised(features, mask, counts)
            if self.pitch:
                centre = 0 if self._centred else self.window // 2
                own = padded[:, left : padded.shape[1] - right] if self._centred else padded
                track = track_pitch(own, lengths, features.shape[1], self.hop, centre, self.rate, mask)
                features = torch.cat([features, track], dim=2)
            return features.mul_(inside[:, :, None]), counts

    @property
    def _centred(self) -> bool:
        return self.kind in ("mel", "logmel")

    def _spectra(self, padded: Tensor) -> Tensor:
        """Returns the columns before deltas and normalisation, ``(B, T, F)``."""
        if self.kind == "waveform":
            return padded[:, :, None]
        taper = self.taper if self.kind == "fbank" else None
        of = (self.window, self._size, self.rate, self.band_hz, self.bins, taper, padded.device)
        weights, window = filterbank(*of)
        if self.kind == "fbank":
            # x(i) - 0.97 x(i-1), written so that a large constant costs no digits; 0.03 of it is left and
            # goes frame by frame. The first sample, its own predecessor, meets a Povey window of 0.
            means = avg_pool1d(padded[:, None], self.window, self.hop)[:, 0, :, None]
            steps = torch.add(padded.diff(dim=1), padded[:, :-1], alpha=KALDI_REST)
            frames = pad(steps, (1, 0)).unfold(1, self.window, self.hop)
            firsts = None
            if self.taper != "povey":
                firsts = padded[:, :: self.hop][:, : frames.shape[1]] * (KALDI_REST * window[0])
            powers = band_powers(frames, window, weights, self._size, KALDI_REST * means, firsts)
            return powers.clamp_min_(KALDI_FLOOR).log_()
        powers = band_powers(padded.unfold(1, self.window, self.hop), window, weights, self._size, None, None)
        return powers if self.kind == "mel" else powers.clamp_min_(MEL_FLOOR).log_()


def at_level(samples: Tensor, lengths: Tensor, level_db: float, levelled: bool) -> Tensor:
    """Brings ``samples (B, S)``, zero past their lengths, to a level, as :class:`FrontEnd` describes it."""
    if levelled:
        samples, least, lowest_gain = without_offset(samples, lengths), _LEAST, 0.0
        powers = block_powers(samples, _BLOCK)
        weights = loud_weights(powers)
        power = (powers * weights).sum(1) / weights.sum(1)
    else:
        least, lowest_gain = 0.0, 1.0
        power = samples.square().sum(1) / lengths.clamp_min(1)
    gains = torch.where(power > least, 10 ** (level_db / 20) / power.sqrt().clamp_min(1e-20), 1.0)
    return samples * gains.clamp_min(lowest_gain)[:, None]


def block_powers(samples: Tensor, size: int) -> Tensor:
    """Returns the power of blocks of ``samples (B, S)`` that follow each other, ``(B, ceil(S / size))``."""
    return avg_pool1d(pad(samples, (0, size - 1)).square()[:, None], size, size)[:, 0]


def loud_weights(powers: Tensor) -> Tensor:
    """Returns how much blocks or frames of ``powers (B, T)`` count: 1 down to 20 dB below the loudest.

    Below that it is proportional to the power, so that a small change never changes much; 1 in silence.
    """
    limit = _LOUD * powers.amax(1, keepdim=True)
    return ((powers + _LEAST) / (limit + _LEAST)).clamp_max(1.0)


def without_offset(samples: Tensor, lengths: Tensor) -> Tensor:
    """Subtracts the mean of each of ``samples (B, S)``, zero past their ``lengths (B,)``."""
    inside = torch.arange(samples.shape[1], device=lengths.device) < lengths[:, None]
    return torch.where(inside, samples - (samples.sum(1) / lengths.clamp_min(1))[:, None], 0.0)


def _inside(ends: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns ``(B, width)`` of 1 before each end and 0 after; a product is far cheaper than any fill."""
    exact = torch.float32 if width < 2**24 else torch.float64
    places = torch.arange(width, device=ends.device, dtype=exact)
    ones = torch.empty(len(ends), width, device=ends.device, dtype=dtype)
    return torch.lt(places, ends[:, None].to(exact), out=ones)


def slopes(features: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Slope of the regression over frames t-2 to t+2, ``(B, T, F)``; the edge frames repeat."""
    final = features[torch.arange(len(counts), device=counts.device), counts - 1][:, None]
    long = torch.where(mask[:, :, None], features, final)
    long = torch.cat([long[:, :1], long[:, :1], long, final, final], dim=1)
    return (2 * (long[:, 4:] - long[:, :-4]) + long[:, 3:-1] - long[:, 1:-3]) / 10


def normalised(features: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Brings each column to mean 0 and standard deviation 1 over its utterance, ``(B, T, F)``."""
    number = counts[:, None, None]
    mean = torch.where(mask[:, :, None], features, 0.0).sum(dim=1, keepdim=True) / number
    centred = torch.where(mask[:, :, None], features - mean, 0.0)
    deviation = (centred.square().sum(dim=1, keepdim=True) / number).sqrt()
    return centred / deviation.clamp_min(1e-5)
