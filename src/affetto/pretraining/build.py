"""The objective and the batches of one pretraining, from its settings."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affetto.data import LengthBuckets, SpeakerBatches, Store
from affetto.features import FrontEnd
from affetto.material.recordings import Recordings
from affetto.models.encoder import Encoder
from affetto.objectives.objective import Objective
from affetto.objectives.tasks import TASKS, TaskInputs, build_task
from affetto.objectives.views import Multitask, Together
from affetto.pretraining.settings import PretrainSettings


def build_objective(settings: PretrainSettings, encoder: Encoder, sizes: dict[str, int]) -> Objective:
    """Builds the tasks that have a weight, on one encoder.

    Args:
        settings: which tasks.
        encoder: what is pretrained.
        sizes: how many speakers there are, and how wide the vectors.

    Raises:
        ConfigError: for a task that the encoder does not fit.
    """
    weights, given = settings.task_weights, TaskInputs(encoder, settings.masking, sizes)
    built = {name: build_task(name, settings.of_task(name), given) for name in weights}
    objectives = list[Objective]()
    if views := {name: task for name, task in built.items() if not TASKS[name].masked}:
        objectives.append(Multitask(encoder, views, weights, settings.views))
    for name in settings.masked:
        own = built[name].weights
        built[name].weights = {loss: weights[name] * weight for loss, weight in own.items()}
        objectives.append(built[name])
    return objectives[0] if len(objectives) == 1 else Together(encoder, objectives)


def build_batches(
    settings: PretrainSettings,
    recordings: Recordings,
    rows: NDArray[np.int64],
    groups: Tensor | None,
    share: dict[str, int],
) -> SpeakerBatches | LengthBuckets:
    """Returns which of the rows come together: by speaker and group for tasks on views, else by length.

    ``share`` holds the rank of this process, the number of processes (``world``), and the seed.
    """
    size = settings.train.batch_size
    if not settings.on_views:
        return LengthBuckets(recordings.waveforms.lengths[rows], size, **share)
    speakers = np.unique(recordings.speakers[rows], return_inverse=True)[1]
    own = np.zeros_like(speakers) if groups is None else groups.numpy()[rows]
    return SpeakerBatches(speakers, own, size, settings.per_speaker, **share)


def batch_store(settings: PretrainSettings, recordings: Recordings, front_end: FrontEnd) -> Store:
    """Returns what batches are made of: cached features where the tasks can read them, else waveforms.

    Views are made of power spectra, which only plain log-mel features allow.
    """
    plain = front_end.kind == "logmel" and not front_end.deltas and not front_end.cmvn
    on_features = plain if settings.on_views else front_end.kind != "waveform"
    return recordings.features(front_end) if on_features else recordings.waveforms
