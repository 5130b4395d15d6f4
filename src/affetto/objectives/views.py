"""Pretraining on two views of every utterance, and several objectives on one encoder."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from affetto.augment import AugmentConfig, augment_waveforms, spec_augment
from affetto.augment_features import augment_spectra
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.encoder import Encoder
from affetto.models.layers import MeanPooling
from affetto.objectives.objective import Objective, Task, Views, new_generator


class ViewSettings(Settings):
    """How a view is made of an utterance."""

    crop_seconds: float = Field(1.6, ge=0)  # length of the random excerpt that is kept; 0 for all
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
    """Encoder and mean pooling, shared by tasks that each have a head of their own.

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
        self.encoder, self.pooling, self.view_settings = encoder, MeanPooling(encoder.dim), views
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
        generator = new_generator()
        values, lengths = torch.cat([batch.values] * 2), torch.cat([batch.lengths] * 2)
        front_end, settings = self.encoder.front_end, self.view_settings
        augment = settings.augment if self.training else AugmentConfig()
        if values.ndim == 3:
            crop = round(settings.crop_seconds / front_end.frame_seconds) if settings.crop_seconds else None
            features, frames = augment_spectra(values, lengths, augment, front_end, generator, crop)
        else:
            if settings.crop_seconds:
                samples = round(settings.crop_seconds * front_end.rate)
                values, lengths = _crop(values, lengths, samples, generator)
            features, frames = front_end(*augment_waveforms(values, lengths, augment, generator))
        hidden = spec_augment(features, frames, augment, generator) if features.shape[2] > 1 else features
        encoded = self.encoder(hidden, frames)
        vectors = self.pooling(encoded.values, encoded.lengths)
        columns = {name: torch.cat([column] * 2) for name, column in batch.columns.items()}
        return Views(vectors, encoded, features, frames, torch.cat([batch.index] * 2), columns)


def _crop(
    waveforms: Tensor, lengths: Tensor, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    kept = lengths.clamp_max(samples)
    drawn = torch.rand(len(lengths), generator=generator).to(waveforms.device)
    starts = ((lengths - kept + 1) * drawn).long()
    places = starts[:, None] + torch.arange(int(kept.max()), device=waveforms.device)
    cut = waveforms.gather(1, places.clamp_max(waveforms.shape[1] - 1))
    outside = torch.arange(cut.shape[1], device=cut.device) >= kept[:, None]
    return cut.masked_fill(outside, 0.0), kept
