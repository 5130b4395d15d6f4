"""What ``pretrain`` can be told, and the tasks that follow from it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from affetto.annotation.contents import content_bytes, contents
from affetto.annotation.spaces import centred, without
from affetto.config import Settings, build, merge, override, read
from affetto.corpora.arrays import read_vectors
from affetto.corpora.curves import INTENSITY_COLUMN
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.masking import CURVES, MaskSettings
from affetto.material.recordings import Recordings
from affetto.models.embedders import EncoderSettings
from affetto.models.encoder import Encoder
from affetto.models.npc import Npc
from affetto.models.tdnn import TdnnSettings
from affetto.objectives.contrastive import Contrastive, ContrastiveSettings
from affetto.objectives.mockingjay import MockingjayObjective, MockingjayObjectiveSettings
from affetto.objectives.multitask import Multitask, ViewSettings
from affetto.objectives.npc import NpcObjective, NpcObjectiveSettings
from affetto.objectives.objective import Objective, Task
from affetto.objectives.reconstruct import ReconstructionTask
from affetto.objectives.speakers import SpeakerSettings, SpeakerTask
from affetto.objectives.together import Together
from affetto.objectives.vectors import VectorTask
from affetto.pretraining.groups import group_column
from affetto.pretraining.guides import curves_sha256, known_curves
from affetto.training import TrainSettings

DEFAULT_WEIGHTS = {
    "contrastive": {"contrastive": 1.0},
    "multitask": {"contrastive": 1.0, "speaker": 0.1},
    "mockingjay": {"mockingjay": 1.0},
    "npc": {"npc": 1.0},
}
"""Tasks of an objective and their weights, where the settings name none."""

VIEW_TASKS = ("contrastive", "instance", "vector", "speaker", "adversary", "reconstruction")
"""Tasks on two views of every utterance."""

MASKED_TASKS = ("mockingjay", "npc")
"""Tasks on whole utterances with hidden frames."""


class VectorSettings(Settings):
    """What similarity is measured on.

    Attributes:
        column: of the manifest, written by ``affetto annotate speakers``.
        encoder: that made them; None for whichever did.
        centre: take each speaker's mean away.
        content: column that tells what is said, to be taken out of them; see
            :func:`affetto.annotation.contents.contents`.
        dims: principal directions that are kept.
        whiten: how far their spreads are made equal: 0 not at all, 1 entirely.
    """

    column: str = "speaker_embedding"
    encoder: str | None = None
    centre: bool = True
    content: str | None = None
    dims: int = Field(64, ge=1)
    whiten: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> "VectorSettings":
        if self.content and not self.centre:
            raise ValueError(
                "what is said is taken out of vectors that are centred on their speakers; leave out "
                "vectors.content, or set vectors.centre=true"
            )
        return self


class PretrainSettings(Settings):
    """Everything that ``pretrain`` can be told.

    Attributes:
        objective: ``"contrastive"``, ``"mockingjay"`` or ``"npc"``, or ``"multitask"`` with whatever has a
            weight.
        weights: of the tasks: ``contrastive``, on the groups or similarities of ``contrastive``;
            ``instance``, the same with an utterance's own second view as its only positive; ``vector``,
            foretelling the vector that ``vectors`` describes; ``speaker``, speaker classification;
            ``adversary``, the same with its gradient reversed; ``reconstruction`` of views;
            ``mockingjay``, rebuilding hidden frames; ``npc``, foretelling frames from their neighbours.
        encoder: what is pretrained; ``mockingjay`` and ``npc`` bring their own, unless one is named.
        published_weights: whether it starts from its published weights.
        protocol: pretrain on its training speakers alone, fold by fold; None for everybody in the manifest.
        groups: a column of the manifest, ``cluster`` at first, or a control of
            :data:`affetto.pretraining.groups.KINDS`.
        vectors: what similarity is measured on, where positives are ``"similar"``, and what is foretold.
        contrastive: the contrastive task.
        instance: the instance task, where it has a weight.
        speaker: the two speaker tasks.
        views: how views are made.
        masking: which frames ``mockingjay`` hides, and ``npc`` is judged on.
        mockingjay: what else that task does.
        npc: what else that one does.
        per_speaker: utterances of a speaker in a hand, of which a batch has ``train.batch_size /
            per_speaker``.
        train: the loop.
        seeds: each pretrains anew.
    """

    objective: Literal["contrastive", "multitask", "mockingjay", "npc"] = "contrastive"
    weights: dict[
        Literal[
            "contrastive",
            "instance",
            "vector",
            "speaker",
            "adversary",
            "reconstruction",
            "mockingjay",
            "npc",
        ],
        float,
    ] = Field(default_factory=dict)
    encoder: EncoderSettings = TdnnSettings()
    published_weights: bool = False
    protocol: str | None = None
    groups: str = "cluster"
    vectors: VectorSettings = VectorSettings()
    contrastive: ContrastiveSettings = ContrastiveSettings()
    instance: ContrastiveSettings = ContrastiveSettings(positives="view", candidates="all")
    speaker: SpeakerSettings = SpeakerSettings()
    views: ViewSettings = ViewSettings()
    masking: MaskSettings = MaskSettings()
    mockingjay: MockingjayObjectiveSettings = MockingjayObjectiveSettings()
    npc: NpcObjectiveSettings = NpcObjectiveSettings()
    per_speaker: int = Field(16, ge=2)
    train: TrainSettings = TrainSettings(epochs=20, batch_size=128, learning_rate=2e-3, warmup=0.05)
    seeds: tuple[int, ...] = Field((0,), min_length=1)

    @property
    def task_weights(self) -> dict[str, float]:
        """The tasks that take part, with their weights."""
        given: Mapping[Any, float] = self.weights or DEFAULT_WEIGHTS[self.objective]
        return {name: given[name] for name in (*VIEW_TASKS, *MASKED_TASKS) if given.get(name)}

    @property
    def needs_vectors(self) -> bool:
        """Whether a task looks at ``vectors``."""
        tasks = self.task_weights
        return "vector" in tasks or ("contrastive" in tasks and self.contrastive.positives == "similar")

    @property
    def masked(self) -> bool:
        """Whether a task hides frames of whole utterances."""
        return any(name in self.task_weights for name in MASKED_TASKS)

    @property
    def on_views(self) -> bool:
        """Whether a task looks at two views of every utterance."""
        return any(name in self.task_weights for name in VIEW_TASKS)

    @property
    def switches(self) -> dict[str, Any]:
        """What else the masked task does, as its own settings say; nothing without such a task."""
        tasks = [name for name in MASKED_TASKS if name in self.task_weights]
        return getattr(self, tasks[0]).model_dump(mode="json") if tasks else {}

    @property
    def curves(self) -> dict[str, str]:
        """The columns of curves that a masked task reads, by what they are to it."""
        found: dict[str, str] = {}
        if not self.masked:
            return found
        if self.masking.curve is not None:
            found["guide"] = self.masking.curve
        if any(self.switches.get(name) for name in ("intensity_input", "intensity_loss")):
            by_intensity = CURVES.get(self.masking.guidance) == INTENSITY_COLUMN
            found["intensity"] = (self.masking.curve if by_intensity else None) or INTENSITY_COLUMN
        return found


_PLAIN = {"mockingjay": MockingjayObjectiveSettings(), "npc": NpcObjectiveSettings()}


def pretrain_settings(
    file: Path | None = None, overrides: tuple[str, ...] = (), **given: Any
) -> PretrainSettings:
    """Composes settings: the defaults, then the file, then what was given, then the overrides.

    Raises:
        ConfigError: for an unknown key, or tasks that do not fit the objective.
    """
    given = {name: one for name, one in given.items() if one is not None}
    asked = override(merge(read(file) if file else {}, given), overrides)
    if asked.get("objective") in MASKED_TASKS:
        asked["encoder"] = {"name": asked["objective"], **asked.get("encoder", {})}
    # Group by group: one setting of a group leaves the others as they are by default.
    settings = build(PretrainSettings, merge(PretrainSettings().model_dump(mode="json"), asked))
    tasks = settings.task_weights
    if not tasks:
        raise ConfigError(
            f"no task has a weight; give weights.NAME, one of: {', '.join((*VIEW_TASKS, *MASKED_TASKS))}"
        )
    if settings.objective != "multitask" and set(tasks) != {settings.objective}:
        raise ConfigError(
            f"the objective {settings.objective} has one task, got {', '.join(tasks)}; "
            "choose --objective multitask"
        )
    idle = [name for name in MASKED_TASKS if name not in tasks and getattr(settings, name) != _PLAIN[name]]
    npc_alone = "npc" in tasks and settings.npc.frames == "all" and not settings.npc.wider
    if settings.masking != MaskSettings() and (npc_alone or not settings.masked):
        idle.append("masking")
    if idle:
        raise ConfigError(
            f"the settings of {', '.join(idle)} would do nothing: masking is for mockingjay, and for npc "
            "with npc.frames=chosen or npc.wider, and a task's own settings are for that task; leave them "
            "out, or choose --objective mockingjay or npc"
        )
    if set(MASKED_TASKS) <= set(tasks):
        raise ConfigError("mockingjay and npc have encoders of their own; give a weight to one of them")
    return settings


def knowledge(manifest: Manifest, settings: PretrainSettings) -> str | None:
    """Returns a hash of the groups, vectors and curves that the tasks ask for; None where they ask for none.

    The hash of a manifest leaves annotations out, and new clusters must not pass for the old ones.
    """
    columns = sorted(set(settings.curves.values()))
    found = [_view_knowledge(manifest, settings)]
    found += [curves_sha256(known_curves(manifest, column)) for column in columns]
    known = [each for each in found if each is not None]
    if len(known) < 2:
        return known[0] if known else None
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _view_knowledge(manifest: Manifest, settings: PretrainSettings) -> str | None:
    if settings.needs_vectors:
        vectors = read_vectors(manifest, settings.vectors.column, settings.vectors.encoder)
        digest = hashlib.sha256(np.ascontiguousarray(vectors).data)
        if settings.vectors.content:
            digest.update(content_bytes(manifest, settings.vectors.content))
        return digest.hexdigest()
    if "contrastive" not in settings.task_weights or settings.contrastive.positives == "view":
        return None
    column = group_column(manifest, settings.groups)
    values = [] if column is None else manifest.table[column].astype(str).tolist()
    return hashlib.sha256(json.dumps([settings.groups, values]).encode()).hexdigest()


def build_objective(
    settings: PretrainSettings, encoder: Encoder, speakers: int, columns: Mapping[str, Tensor]
) -> Objective:
    """Builds the tasks that have a weight, on one encoder.

    Args:
        settings: which tasks.
        encoder: what is pretrained.
        speakers: how many there are.
        columns: of the batches, by name.

    Raises:
        ConfigError: for a task that the encoder does not fit.
    """
    weights, objectives = settings.task_weights, list[Objective]()
    tasks = _view_tasks(settings, encoder, speakers, columns)
    if tasks:
        objectives.append(Multitask(encoder, tasks, weights, settings.views))
    if "mockingjay" in weights:
        objectives.append(MockingjayObjective(encoder, settings.mockingjay, settings.masking))
    if "npc" in weights:
        if not isinstance(encoder, Npc):
            raise ConfigError(
                f"npc trains the encoder npc, whose mask is in its weights, not {settings.encoder.name}"
            )
        objectives.append(NpcObjective(encoder, settings.npc, settings.masking))
    for one in objectives[bool(tasks) :]:
        share = next(weights[name] for name in MASKED_TASKS if name in weights)
        one.weights = {name: share * weight for name, weight in one.weights.items()}
    return objectives[0] if len(objectives) == 1 else Together(encoder, objectives)


def _view_tasks(
    settings: PretrainSettings, encoder: Encoder, speakers: int, columns: Mapping[str, Tensor]
) -> dict[str, Task]:
    """Builds the tasks on views that have a weight."""
    dim, front_end = encoder.dim, encoder.front_end

    def make(name: str) -> Task:
        if name in ("contrastive", "instance"):
            return Contrastive(getattr(settings, name), dim)
        if name == "vector":
            return VectorTask(dim, columns["vector"].shape[1])
        if name in ("speaker", "adversary"):
            return SpeakerTask(settings.speaker, dim, speakers, name == "adversary")
        if front_end.kind == "waveform":
            raise ConfigError(f"{settings.encoder.name} reads samples; reconstruction is for spectra")
        stack = round(encoder.hop_seconds / front_end.frame_seconds)
        return ReconstructionTask(dim, front_end.dim, stack, front_end.kind == "mel")

    return {name: make(name) for name in VIEW_TASKS if name in settings.task_weights}


def spread(values: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Tensor:
    """Returns values of some rows as a column of all; the others are zero and never looked at."""
    column = torch.zeros(count, dtype=torch.long)
    column[torch.from_numpy(rows)] = torch.from_numpy(values)
    return column


def target_vectors(recordings: Recordings, rows: NDArray[np.int64], settings: VectorSettings) -> Tensor:
    """Returns speaker-centred vectors in their principal directions, ``(N, dims)``, zero outside ``rows``."""
    manifest = recordings.manifest.where(np.isin(np.arange(len(recordings.speakers)), rows))
    values = read_vectors(manifest, settings.column, settings.encoder)
    speakers = np.unique(recordings.speakers[rows], return_inverse=True)[1]
    values = centred(values, speakers if settings.centre else np.zeros_like(speakers))
    values /= values.std(0).clip(1e-9)
    if settings.content:
        values = without(values, speakers, contents(manifest, settings.content, speakers))
    _, spreads, axes = np.linalg.svd(values.astype(np.float64), full_matrices=False)
    kept = slice(0, settings.dims)
    projected = values @ axes[kept].T / spreads[kept].clip(1e-9) ** settings.whiten
    column = torch.zeros(len(recordings.speakers), projected.shape[1])
    column[torch.from_numpy(rows)] = torch.from_numpy(projected).float()
    return column
