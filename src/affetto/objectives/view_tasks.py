"""Tasks on views besides contrast: predicting vectors, classifying speakers, rebuilding the spectrum."""

from typing import Any

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.errors import ConfigError
from affetto.models.encoder import Encoder, frame_mask, normalise_logmel
from affetto.objectives.distributed import mean_loss
from affetto.objectives.objective import Task, Views, feature_frames, mean_distance


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
    """Cross-entropy over the speakers of the training part."""

    reverses = False

    def __init__(self, settings: SpeakerTaskSettings, dim: int, speakers: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Linear(dim, speakers)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        vectors, speaker = views.vectors.float(), views.columns["speaker"]
        vectors = reverse_gradient(vectors) if self.reverses else vectors
        if not self.settings.margin:
            return mean_loss(F.cross_entropy(self.head(vectors), speaker, reduction="none"))
        cosines = F.normalize(vectors, dim=1) @ F.normalize(self.head.weight, dim=1).T
        return mean_loss(margin_losses(cosines, speaker, self.settings.margin, self.settings.scale))


class Adversary(SpeakerTask):
    """The same with its gradient reversed: the network learns to hide the speaker (Ganin et al. 2016)."""

    reverses = True


class ReconstructionTask(Task):
    """Rebuilds the log-mel spectrum, as it was before parts were hidden, by a linear layer on every frame."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        front_end = encoder.front_end
        if front_end.kind == "waveform":
            settings: Any = encoder.settings
            raise ConfigError(f"{settings.name} reads samples; reconstruction is for spectra")
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
    margins = margin * F.one_hot(classes, cosines.shape[1])
    return F.cross_entropy(scale * (cosines - margins), classes, reduction="none")


def reverse_gradient(values: Tensor) -> Tensor:
    """Returns the values unchanged; in the backward pass their gradient changes its sign."""
    return 2 * values.detach() - values
