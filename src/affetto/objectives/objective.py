"""What every objective is: a module that owns its networks and turns a batch into named losses."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.augment_features import augment_spectra
from affetto.data import Batch
from affetto.errors import ConfigError
from affetto.features import FrontEnd
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Network
from affetto.models.encoder import Encoder, Frames


class Objective(nn.Module):
    """Turns a batch into named losses; the same names carry their weights and their curves.

    Attributes:
        needs: columns that the objective asks a batch for, each with the verb that makes it, so that a
            missing one is named before training starts.
        weights: a factor for each named loss; 1 where none is given.
    """

    needs: dict[str, str]
    weights: dict[str, float]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of a batch by name, each a scalar."""
        raise NotImplementedError  # abstract


@dataclass(frozen=True)
class Views:
    """Two views of every utterance of a batch, the first views before the second ones.

    Attributes:
        vectors: one an utterance and view, ``(2 B, D)``.
        frames: what the encoder made of them.
        features: what it read, before anything was hidden, ``(2 B, T, F)``.
        lengths: feature frames in each, ``(2 B,)``.
        index: row numbers in the manifest, ``(2 B,)``; both views of an utterance have the same.
        columns: the batch's columns, once for each view.
    """

    vectors: Tensor
    frames: Frames
    features: Tensor
    lengths: Tensor
    index: Tensor
    columns: dict[str, Tensor]


class Supervised(Objective):
    """What trains a recogniser's network on labels: changes what was heard, and embeds it.

    Args:
        classifier: the network to train.
        augment: what is done to waveforms, features and cached frames in training.
        reads: what the batches hold.
    """

    def __init__(self, classifier: EmotionClassifier, augment: AugmentConfig, reads: Reads) -> None:
        super().__init__()
        if not isinstance(classifier.embedder, Network) and reads != "vectors":
            raise TypeError("only networks are trained by gradient; this embedder gives fixed vectors")
        self.classifier, self.augment, self.reads = classifier, augment, reads

    def embedded(self, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Augments, in training, and embeds.

        Returns:
            Vectors ``(B, D)``, and the targets ``(B, K)``, mixed as the utterances were.
        """
        if self.reads == "vectors":
            values, lengths, augment = batch.values, batch.lengths, self.augment
            if self.training:
                values, _, targets = mixup(values, lengths, targets, augment.mixup, new_generator())
            return values[:, 0], targets
        views, targets = self.viewed(batch, targets)
        return views.vectors, targets

    def viewed(self, batch: Batch, targets: Tensor) -> tuple[Views, Tensor]:
        """Does the same, and returns all that was seen on the way."""
        frames, features, lengths, targets = self._frames(batch, targets)
        assert isinstance(self.classifier.embedder, Network)
        vectors = self.classifier.embedder.pool(frames)
        return Views(vectors, frames, features, lengths, batch.index, batch.columns), targets

    def _frames(self, batch: Batch, targets: Tensor) -> tuple[Frames, Tensor, Tensor, Tensor]:
        generator = new_generator()
        values, lengths, augment = batch.values, batch.lengths, self.augment
        embedder, front_end = self.classifier.embedder, self.classifier.front_end
        if self.reads == "frames":
            if self.training:
                values = spec_augment(values, lengths, augment, generator)
                values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
            return self.classifier.split_layers(values, lengths), values, lengths, targets
        if self.training:
            if self.reads == "features":
                values, lengths = augment_spectra(values, lengths, augment, front_end, generator)
            else:
                values, lengths = augment_waveforms(values, lengths, augment, generator)
            values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
        if self.reads == "waveforms":
            values, lengths = front_end(values, lengths)
        if self.training and front_end.kind != "waveform":
            values = spec_augment(values, lengths, augment, generator)
        assert isinstance(embedder, Network)
        return embedder.encoder(values, lengths), values, lengths, targets


class Task(nn.Module):
    """One loss of several on shared views: it owns its head.

    Attributes:
        needs: columns that the task asks a batch for, each with the verb that makes it.
    """

    needs: dict[str, str]

    def forward(self, views: Views) -> Tensor:
        """Returns the loss, a scalar."""
        raise NotImplementedError  # abstract


def new_generator() -> torch.Generator:
    """Returns a generator on the CPU, seeded from torch's own state.

    That state is kept in checkpoints, so that a resumed run draws what the straight one does.
    """
    generator = torch.Generator(device="cpu")
    generator.manual_seed(int(torch.randint(2**31, ()).item()))
    return generator


def spectra(batch: Batch, front_end: FrontEnd) -> tuple[Tensor, Tensor]:
    """Returns a batch's features ``(B, T, F)`` and frames ``(B,)``, made of its waveforms if need be."""
    if batch.values.ndim == 3:
        return batch.values, batch.lengths
    return front_end(batch.values, batch.lengths)


def feature_frames(encoder: Encoder) -> int:
    """Returns how many feature frames lie under one frame of an encoder.

    Raises:
        ConfigError: for an encoder that reads samples.
    """
    if encoder.front_end.kind == "waveform":
        raise ConfigError(
            "got an encoder that reads samples; frames can be rebuilt for one that reads spectra, e.g. "
            "encoder.name=mockingjay"
        )
    return round(encoder.hop_seconds / encoder.front_end.frame_seconds)


def mean_distance(rebuilt: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """Returns the mean absolute error over the chosen frames of all processes; 0 where there are none.

    Args:
        rebuilt: ``(B, T', F)``; where it is longer or shorter than the target, the ends are left out.
        target: ``(B, T, F)``.
        chosen: ``(B, T)`` bool.
    """
    frames = min(rebuilt.shape[1], target.shape[1])
    errors = F.l1_loss(rebuilt[:, :frames].float(), target[:, :frames].float(), reduction="none").mean(2)
    chosen = chosen[:, :frames]
    # Not a product, which would carry what is not a number from padding into the sum.
    return mean_over_processes(errors.masked_fill(~chosen, 0.0).sum(), chosen.float().sum())


def gathered(values: Tensor) -> Tensor:
    """Joins the rows ``(B, ...)`` of all processes, in the order of their ranks; gradients find their way.

    With one process these are the rows themselves.
    """
    if processes() == 1:
        return values
    return torch.as_tensor(_Gather.apply(values))  # type: ignore[no-untyped-call]


def processes() -> int:
    """Returns the number of processes that train together."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def first_row(values: Tensor) -> int:
    """Returns where this process's rows start in what :func:`gathered` makes of them."""
    if processes() == 1:
        return 0
    return sum(_counts(values)[: torch.distributed.get_rank()])


def _counts(values: Tensor) -> list[int]:
    own = torch.tensor([len(values)], device=values.device)
    counts = [torch.zeros_like(own) for _ in range(processes())]
    torch.distributed.all_gather(counts, own)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """Rows of all processes; backward, each process gets what all of them say about its own rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        counts = _counts(values)
        ctx.start = sum(counts[: torch.distributed.get_rank()])
        ctx.rows = len(values)
        padded = values.new_zeros(max(counts), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded.contiguous())
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.rows]


def mean_over_processes(total: Tensor, weight: Tensor) -> Tensor:
    """Returns ``total / weight`` such that its average over processes is the ratio of the sums over them.

    Processes average their gradients as if each had the same share of a batch. Where shares differ, by one
    utterance or by the weights of their classes, only this makes several processes equal one.

    Args:
        total: a process's sum of losses, a scalar that carries the gradient.
        weight: the sum of weights that it was made with, a scalar.
    """
    weight = weight.detach()
    if processes() > 1:
        weight = weight.clone()
        torch.distributed.all_reduce(weight)
    return total * processes() / weight.clamp_min(1e-6)
