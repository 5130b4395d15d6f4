"""Tasks on two views of every utterance, contrast among them, and several tasks on one encoder."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.augment import AugmentConfig, augment_waveforms, spec_augment, uniform
from affetto.augment_features import augment_spectra
from affetto.config import Settings
from affetto.data import NONE, Batch
from affetto.errors import ConfigError
from affetto.models.encoder import Encoder, frame_mask, normalise_logmel
from affetto.models.layers import POOLINGS
from affetto.objectives.objective import (
    Objective,
    Task,
    Views,
    feature_frames,
    gathered,
    mean_distance,
    mean_loss,
    own_rows,
)


class ViewSettings(Settings):
    """How a view is made of an utterance."""

    crop_seconds: float = Field(1.6, ge=0)  # length of the random excerpt that is kept; 0 for all
    pooling: Literal["mean", "statistics"] = "mean"  # of its frames over time; the second adds deviations
    augment: AugmentConfig = AugmentConfig(
        gain_db=6.0,
        noise_probability=0.3,
        noise_snr_db=(10.0, 30.0),
        speed=(0.9, 1.1),
        time_masks=2,
        time_mask_frames=20,
        frequency_masks=2,
        frequency_mask_bins=12,
    )


class Multitask(Objective):
    """Encoder and pooling, shared by tasks that each have a head of their own.

    Ulgen et al. (2024) combine the contrastive loss with speaker classification, with or without its gradient
    reversed; the other tasks are additions. A batch holds waveforms ``(B, S)``, or log-mel features
    ``(B, T, F)`` of the encoder's own front end. A task may be an objective on the same encoder, whose losses
    have other names; it reads the batch itself: whole utterances with hidden frames do not fit into views.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task | Objective],
        weights: Mapping[str, float],
        views: ViewSettings,
    ) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, POOLINGS[views.pooling](encoder.dim)
        self.view_settings = views
        self.tasks, self.objectives, self.weights = nn.ModuleDict(), nn.ModuleList(), {}
        for name, task in tasks.items():
            weight = float(weights.get(name, 1.0))
            if isinstance(task, Objective):
                self.objectives.append(task)
                self.weights |= {loss: weight * factor for loss, factor in task.weights.items()}
            else:
                self.tasks[name] = task
                self.weights[name] = weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses by name."""
        losses = {}
        if self.tasks:
            views = self.views(batch)
            losses = {name: task(views) for name, task in self.tasks.items()}
        return losses | {name: loss for each in self.objectives for name, loss in each(batch).items()}

    def views(self, batch: Batch) -> Views:
        """Makes two views of every utterance and encodes them."""
        values, lengths = torch.cat([batch.values] * 2), torch.cat([batch.lengths] * 2)
        front_end, settings = self.encoder.front_end, self.view_settings
        augment = settings.augment if self.training else AugmentConfig()
        if self.encoder.reads_vectors:  # its dropout makes the views
            features, frames = values, lengths
        elif values.ndim == 3:
            crop = round(settings.crop_seconds / front_end.frame_seconds) if settings.crop_seconds else None
            features, frames = augment_spectra(values, lengths, augment, front_end, crop=crop)
        else:
            if settings.crop_seconds:
                samples = round(settings.crop_seconds * front_end.rate)
                values, lengths = _crop(values, lengths, samples)
            features, frames = front_end(*augment_waveforms(values, lengths, augment))
        spectra = features.shape[2] > 1 and not self.encoder.reads_vectors
        hidden = spec_augment(features, frames, augment) if spectra else features
        encoded = self.encoder(hidden, frames)
        vectors = self.pooling(encoded.values, encoded.lengths)
        columns = {name: torch.cat([column] * 2) for name, column in batch.columns.items()}
        return Views(vectors, encoded, features, frames, torch.cat([batch.index] * 2), columns)


def _crop(waveforms: Tensor, lengths: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    kept = lengths.clamp_max(samples)
    starts = ((lengths - kept + 1) * uniform(lengths, 0.0, 1.0, None)).long()
    places = starts[:, None] + torch.arange(min(samples, waveforms.shape[1]), device=waveforms.device)
    cut = waveforms.gather(1, places.clamp_max(waveforms.shape[1] - 1))
    outside = torch.arange(cut.shape[1], device=cut.device) >= kept[:, None]
    return cut.masked_fill(outside, 0.0), kept


class VectorTask(Task):
    """One minus the cosine between the column ``vector`` and what a linear layer predicts of it.

    Not in Ulgen et al. (2024): clusters keep a coarse part of a speaker-centred embedding, this keeps it all.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, size)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        predicted = self.head(views.vectors).float()
        return mean_loss(1 - F.cosine_similarity(predicted, views.columns["vector"], dim=1))


class SpeakerTaskSettings(Settings):
    """How speakers are classified: by a plain softmax, or with a margin (:func:`margin_losses`)."""

    margin: float = Field(0.0, ge=0, lt=1)  # subtracted from the cosine of the right speaker
    scale: float = Field(30.0, gt=0)  # factor on the cosines where there is a margin

    @model_validator(mode="after")
    def _fits(self) -> "SpeakerTaskSettings":
        if self.scale != 30 and not self.margin:
            raise ValueError(f"got scale={self.scale:g} with margin=0; set a margin, or leave scale out")
        return self


class SpeakerTask(Task):
    """Cross-entropy over the speakers of the training part.

    With a reversed gradient the network learns to hide the speaker (Ganin et al. 2016).
    """

    def __init__(
        self, settings: SpeakerTaskSettings, dim: int, speakers: int, reverses: bool = False
    ) -> None:
        super().__init__()
        self.settings, self.reverses = settings, reverses
        self.head = nn.Linear(dim, speakers)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        vectors, speaker = views.vectors.float(), views.columns["speaker"]
        vectors = reverse_gradient(vectors) if self.reverses else vectors
        if not self.settings.margin:
            return mean_loss(F.cross_entropy(self.head(vectors), speaker, reduction="none"))
        cosines = F.normalize(vectors, dim=1) @ F.normalize(self.head.weight, dim=1).T
        return mean_loss(margin_losses(cosines, speaker, self.settings.margin, self.settings.scale))


class ReconstructionTask(Task):
    """Rebuilds the log-mel spectrum, as it was before parts were hidden, by a linear layer on every frame."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        front_end = encoder.front_end
        if front_end.kind == "waveform":
            name = getattr(encoder.settings, "name", "the encoder")
            raise ConfigError(f"{name} reads samples; reconstruction is for spectra")
        self.power = front_end.kind == "mel"
        self.head = nn.Linear(encoder.dim, feature_frames(encoder) * front_end.dim)

    def forward(self, views: Views) -> Tensor:
        """Returns the mean absolute error over valid feature frames of all processes."""
        features = views.features.clamp_min(1e-10).log() if self.power else views.features
        valid = frame_mask(views.lengths, features.shape[1]).squeeze(2).bool()
        return mean_distance(self.head(views.frames.values), normalise_logmel(features), valid)


def margin_losses(cosines: Tensor, classes: Tensor, margin: float, scale: float) -> Tensor:
    """Returns the additive-margin softmax loss of each item, ``(B,)`` (Wang et al. 2018, equation 6).

    Args:
        cosines: between items and the weights of the classes, ``(B, K)``.
        classes: the right class of each item, ``(B,)``.
        margin: subtracted from the cosine of the right class.
        scale: factor on all of them.
    """
    right = classes[:, None] == torch.arange(cosines.shape[1], device=classes.device)
    margins = margin * right
    return F.cross_entropy(scale * (cosines - margins), classes, reduction="none")


def reverse_gradient(values: Tensor) -> Tensor:
    """Returns the values unchanged; in the backward pass their gradient changes its sign."""
    return 2 * values.detach() - values


class ContrastiveSettings(Settings):
    """What is pulled together and what is pushed apart.

    Positives are, for ``"group"``, utterances of the same speaker and group; for ``"view"`` only the
    utterance's own second view (SimCLR, Chen et al. 2020); for ``"similar"`` all candidates, by how similar
    their speaker-centred vectors are.
    """

    positives: Literal["group", "view", "similar"] = "group"
    candidates: Literal["speaker", "all"] = "speaker"  # other items of the same speaker, or of every one
    matched: bool = False  # whether a group means the same for every speaker; for candidates "all"
    temperature: float = Field(0.1, gt=0)  # divides the cosines that are learned
    target_temperature: float = Field(0.1, gt=0)  # divides those of the vectors, for positives "similar"
    hidden: int = Field(256, ge=4)  # width of the hidden layer of the projection head
    projection: int = Field(128, ge=2)  # size of its output

    @model_validator(mode="after")
    def _fits(self) -> "ContrastiveSettings":
        got = f"with positives={self.positives} and candidates={self.candidates}; it is for positives"
        if self.matched and (self.positives, self.candidates) != ("group", "all"):
            raise ValueError(f"got matched=true {got}=group and candidates=all: set these, or leave it out")
        if self.positives != "similar" and self.target_temperature != 0.1:
            temperature = f"target_temperature={self.target_temperature:g}"
            raise ValueError(f"got {temperature} {got}=similar: set that, or leave it out")
        return self


class Contrastive(Task):
    """A projection head on vectors of size ``dim``, and the contrastive loss on it.

    Positives are groups within a speaker, as in Ulgen et al. (2024), "Revealing emotional clusters in speaker
    embeddings", with the loss of Khosla et al. (2020), "Supervised contrastive learning". The recipe is not
    published in full; this is a reconstruction.
    """

    def __init__(self, settings: ContrastiveSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Sequential(
            nn.Linear(dim, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, settings.projection)
        )

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        settings = self.settings
        projected = F.normalize(self.head(views.vectors).float(), dim=1)
        everyone, own = gathered(projected), own_rows(projected)
        index, speaker = gathered(views.index), gathered(views.columns["speaker"])
        places = torch.arange(len(everyone), device=projected.device)
        itself = places[own, None] == places
        same_speaker = speaker[own, None] == speaker
        candidates = ~itself if settings.candidates == "all" else same_speaker & ~itself
        positives = (index[own, None] == index).float()
        if settings.positives == "group":
            group = gathered(views.columns["group"])
            together = (group[own, None] == group) & (group != NONE)
            if not settings.matched:
                together &= same_speaker
            positives = torch.maximum(positives, together.float())
        elif settings.positives == "similar":
            vector = F.normalize(gathered(views.columns["vector"]), dim=1)
            cosines = vector[own] @ vector.T / settings.target_temperature
            positives = cosines.masked_fill(~candidates, -torch.inf).softmax(1)
        similarities = projected @ everyone.T / settings.temperature
        return mean_loss(contrastive_losses(similarities, positives * candidates, candidates))


def contrastive_losses(similarities: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Returns the supervised contrastive loss of each anchor, ``(B,)`` (Khosla et al. 2020, equation 2).

    Minus the logarithm of a positive's share among the candidates, averaged over positives by their weights.

    Args:
        similarities: of anchors and items, divided by the temperature, ``(B, N)``.
        positives: weights, ``(B, N)``, zero for items that are not positives; each anchor needs one above 0.
        candidates: ``(B, N)`` bool; the items in the denominator, positives among them.
    """
    shares = similarities.masked_fill(~candidates, -torch.inf).log_softmax(1)
    weights = positives / positives.sum(1, keepdim=True).clamp_min(1e-9)
    return -(weights * shares.masked_fill(~candidates, 0.0)).sum(1)
