"""What a strength network reads, and what it says of every utterance."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.data import FeatureCache, Store
from affetto.intensity.network import StrengthNet
from affetto.material.forward import run_over
from affetto.material.recordings import Recordings
from affetto.models.encoder import frame_mask

_QUIET, _MIDDLE = -14.0, -7.0  # log-mel of near silence, and of speech on average, as networks expect it
_PAUSE = 25 * np.log(10) / 10  # 25 dB below the loudest frame of an utterance


class Centred:
    """Log-mel frames, the mean over all that a speaker says moved to the middle.

    What a voice and its microphone always sound like is gone, loudness against the speaker's own stays.
    Pauses do not count, frames 25 dB below the loudest of an utterance: corpora differ in how much silence
    they leave around speech.

    Args:
        features: log-mel.
        speakers: number of the speaker of each row, ``(N,)``.
    """

    def __init__(self, features: FeatureCache, speakers: NDArray[np.int64]) -> None:
        self.features, self.speakers = features, speakers
        count = int(speakers.max(initial=-1)) + 1
        sums, frames = np.zeros((count, features.values.shape[1])), np.zeros((count, 1))
        for row, speaker in enumerate(speakers.tolist()):
            own = np.maximum(features[row], _QUIET)
            level = np.log(np.exp(own).sum(1))
            spoken = level >= level.max() - _PAUSE
            sums[speaker] += own[spoken].sum(0, dtype=np.float64)
            frames[speaker] += spoken.sum()
        means = sums / np.maximum(frames, 1) - _MIDDLE
        self.means = torch.from_numpy(means.astype(np.float32))

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns frames ``(B, T, F)``, zero past their ends, and lengths ``(B,)``."""
        values, lengths = self.features.stack(rows)
        moved = values.clamp_min(_QUIET) - self.means[self.speakers[rows]][:, None]
        return moved * frame_mask(lengths, values.shape[1]), lengths


def reading(recordings: Recordings, network: StrengthNet, speakers: NDArray[np.int64], centre: bool) -> Store:
    """Returns what a network reads: log-mel of its front end, with or without the speakers' means."""
    features = recordings.features(network.front_end)
    return Centred(features, speakers) if centre else features


def read_strengths(
    recordings: Recordings, network: StrengthNet, store: Store, rows: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Returns the strength of every frame of some utterances, ``(T,)`` each, in the order of the rows.

    Args:
        recordings: the utterances.
        network: in whatever state of training it is.
        store: what it reads, from :func:`reading`.
        rows: row numbers.
    """

    def read(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        said = network(values, lengths)
        return said.frames, said.lengths

    lengths, device = recordings.waveforms.lengths[rows], next(network.parameters()).device
    return list(run_over(read, store, rows, lengths, module=network, device=device))
