"""The contracts of objectives and tasks, and what they share."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from affetto.errors import ConfigError
from affetto.models.encoder import Encoder, Frames
from affetto.objectives.distributed import mean_over_processes


class Objective(nn.Module):
    """Its ``forward`` turns a :class:`~affetto.data.Batch` into losses by name, each a scalar."""

    weights: dict[str, float]  # a factor for each loss, 1 where none is given


@dataclass(frozen=True)
class Views:
    """Two views of each utterance of a batch, the first views before the second ones; or one of each."""

    vectors: Tensor  # one a view, (2 B, D)
    frames: Frames  # of the encoder
    features: Tensor  # what the encoder read, before anything was hidden, (2 B, T, F)
    lengths: Tensor  # feature frames in each, (2 B,)
    index: Tensor  # row numbers in the manifest, (2 B,)
    columns: dict[str, Tensor]  # of the batch, once for each view


class Task(nn.Module):
    """One pretraining loss of several, with a head of its own; ``forward`` turns :class:`Views` into it."""


def feature_frames(encoder: Encoder) -> int:
    """Returns how many feature frames one frame of an encoder stands for; refuses one that reads samples."""
    if encoder.front_end.kind == "waveform":
        raise ConfigError(
            "got an encoder that reads samples; frames can be rebuilt for one that reads spectra, e.g. "
            "encoder.name=mockingjay"
        )
    return round(encoder.hop_seconds / encoder.front_end.frame_seconds)


def mean_distance(rebuilt: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """Returns the mean absolute error over the chosen frames of all processes; 0 where there are none.

    Args:
        rebuilt: ``(B, T', F)``, or ``(B, T' / stack, stack F)``, several frames in one.
        target: ``(B, T, F)``; frames past the shorter of the two are left out.
        chosen: ``(B, T)`` bool.
    """
    rebuilt = rebuilt.reshape(len(target), -1, target.shape[2])
    frames = min(rebuilt.shape[1], target.shape[1])
    errors = F.l1_loss(rebuilt[:, :frames].float(), target[:, :frames].float(), reduction="none").mean(2)
    chosen = chosen[:, :frames]
    # A product would carry NaN from padding into the sum.
    return mean_over_processes(errors.masked_fill(~chosen, 0.0).sum(), chosen.float().sum())
