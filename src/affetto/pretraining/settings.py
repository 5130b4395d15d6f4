"""Settings of ``pretrain``: one group for what all tasks share, and one for each task of the table."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model, model_validator

from affetto.config import Settings, build, merge, override, read
from affetto.corpora.arrays import SPEAKER_COLUMN
from affetto.errors import ConfigError
from affetto.masking import MaskSettings
from affetto.models.checkpoint import published_encoder
from affetto.models.embedders import JoinedSettings, PretrainedSettings
from affetto.models.logmel import TdnnSettings
from affetto.models.registry import EMBEDDERS, ENCODERS
from affetto.models.representation import named_vectors
from affetto.objectives.tasks import MULTITASK, TASKS, TaskSpec, chooses_frames, task_settings
from affetto.objectives.views import ViewSettings
from affetto.optimising import TrainSettings


class VectorSettings(Settings):
    """The vectors that similarity is measured on, or that are predicted."""

    column: str = SPEAKER_COLUMN  # of the manifest, written by affetto annotate speakers
    encoder: str | None = None  # that made them; None for any
    centre: bool = True  # whether each speaker's mean is subtracted
    content: str | None = None  # column of words whose effect is removed: vectors, or values that recur
    dims: int = Field(64, ge=1)  # principal directions that are kept
    whiten: float = Field(0.5, ge=0, le=1)  # how far their spreads are made equal: 0 not at all, 1 entirely

    @model_validator(mode="after")
    def _fits(self) -> "VectorSettings":
        if self.content and not self.centre:
            raise ValueError(
                "what is said is taken out of vectors that are centred on their speakers; leave out "
                "vectors.content, or set vectors.centre=true"
            )
        return self


class PretrainSettings(Settings):
    """All settings of ``pretrain``; :func:`settings_class` adds a group for each task."""

    objective: str = "contrastive"  # a task, or "multitask" for every task with a weight
    weights: dict[str, float] = Field(default_factory=dict)  # of the tasks
    # Mockingjay and npc bring their own, unless one is named. Of fixed vectors it is a network on top.
    encoder: PretrainedSettings = TdnnSettings()
    published_weights: bool = False  # whether it starts from them; models of transformers do unless asked
    protocol: str | None = None  # train on its training speakers alone, fold by fold; None for all speakers
    groups: str = "cluster"  # column of the manifest whose groups are positives
    vectors: VectorSettings = VectorSettings()  # of the task vector, and of positives that are "similar"
    views: ViewSettings = ViewSettings()
    masking: MaskSettings = MaskSettings()  # which frames mockingjay hides, or carry the loss of npc
    per_speaker: int = Field(16, ge=2)  # utterances of a speaker that come together in a batch
    # Utterances of tar files that are shuffled at a time and read in the order of the files, without a cache.
    shuffle_buffer: int = Field(0, ge=0)  # 0: everything is decoded once, into the cache
    train: TrainSettings = TrainSettings(epochs=20, batch_size=128, learning_rate=2e-3, warmup=0.05)
    seeds: tuple[int, ...] = Field((0,), min_length=1)  # one pretraining each

    @property
    def task_weights(self) -> dict[str, float]:
        """The tasks that take part, with their weights."""
        given = self.weights or {self.objective: 1.0}
        if not self.weights and self.objective == MULTITASK:
            given = {name: task.weight for name, task in TASKS.items()}
        return {name: given[name] for name in TASKS if given.get(name)}

    def of_task(self, name: str) -> Any:
        """Returns the settings of a task; None where it has none."""
        return getattr(self, TASKS[name].group or name, None)

    @property
    def needs(self) -> dict[str, str]:
        """The columns that the tasks ask of a batch, each with the verb that makes it."""
        needs: dict[str, str] = {}
        for name in self.task_weights:
            needs |= TASKS[name].needs(self.of_task(name), self.masking)
        return needs

    @property
    def on_views(self) -> bool:
        """Whether a task reads two views of every utterance."""
        return any(not TASKS[name].masked for name in self.task_weights)


@cache
def settings_class(tasks: tuple[tuple[str, TaskSpec], ...]) -> type[PretrainSettings]:
    """Returns :class:`PretrainSettings` with the settings of every task."""
    groups = {task.group or name: task_settings(name) for name, task in tasks}
    names = tuple(name for name, _ in tasks)
    fields: dict[str, Any] = {name: (type(own), own) for name, own in groups.items() if own is not None}
    fields["objective"] = (Literal[(*names, MULTITASK)], "contrastive")
    fields["weights"] = (dict[Literal[names], float], Field(default_factory=dict))  # type: ignore[valid-type]
    return create_model("PretrainSettings", __base__=PretrainSettings, **fields)


def pretrain_settings(
    file: Path | None = None, overrides: tuple[str, ...] = (), **given: Any
) -> PretrainSettings:
    """Composes settings: the defaults, then the file, then keywords, then the overrides.

    Raises:
        ConfigError: for an unknown key, tasks that do not fit the objective, or settings without effect.
    """
    given = {name: one for name, one in given.items() if one is not None}
    asked = override(merge(read(file) if file else {}, given), overrides)
    task = TASKS.get(str(asked.get("objective")))
    if task is not None and task.encoder:
        asked["encoder"] = {"name": task.encoder, **asked.get("encoder", {})}
    if "name" in asked.get("encoder", {}):
        asked = _named(asked, asked["encoder"])
    model = settings_class(tuple(TASKS.items()))
    # Group by group: one setting of a group leaves the others at their defaults.
    settings = build(model, merge(model().model_dump(mode="json"), asked))
    tasks = settings.task_weights
    if not tasks:
        raise ConfigError(f"no task has a weight; give weights.NAME, one of: {', '.join(TASKS)}")
    if settings.objective != MULTITASK and set(tasks) != {settings.objective}:
        raise ConfigError(
            f"the objective {settings.objective} has one task, got {', '.join(tasks)}; "
            "choose --objective multitask"
        )
    _refuse_idle(settings)
    own = [name for name in tasks if TASKS[name].encoder]
    if len(own) > 1:
        raise ConfigError(f"{' and '.join(own)} have encoders of their own; give a weight to one of them")
    return settings


_ON_TOP: dict[str, Any] = {
    "train": {"epochs": 6, "batch_size": 384, "learning_rate": 1e-3},
    "per_speaker": 24,
}


def _named(asked: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """Returns settings with what the name of an encoder, or of fixed vectors, stands for."""
    name, known = str(shape["name"]), ENCODERS | EMBEDDERS
    if vectors := named_vectors(name) or ({"name": name} if name in EMBEDDERS else None):
        shape = {**shape, "name": "joined", "parts": vectors.get("parts", [vectors])}
    if shape["name"] == "joined":
        named = [part.get("encoder", part)["name"] for part in shape["parts"]]
        weights = any(known[part].weights for part in named)
        return merge({**_ON_TOP, "published_weights": weights}, {**asked, "encoder": {"top": {}, **shape}})
    shape = shape | (published_encoder(name) or {})
    if (found := ENCODERS.get(shape["name"])) and found.package == "transformers":
        asked.setdefault("published_weights", True)
    return {**asked, "encoder": shape}


_REASONS = {
    "masking": "masking is for mockingjay, and for npc with npc.frames=chosen",
    "groups": "groups is for contrastive.positives=group",
    "vectors": "vectors is for the task vector, and for contrastive.positives=similar",
    "views": "views is for tasks on two views",
    "per_speaker": "per_speaker is for tasks on two views",
}


def _refuse_idle(settings: PretrainSettings) -> None:
    """Raises ConfigError for settings off their defaults that no task with a weight reads."""
    if isinstance(settings.encoder, JoinedSettings):
        masked = [name for name in settings.task_weights if TASKS[name].masked or name == "reconstruction"]
        if masked or settings.views != ViewSettings():
            raise ConfigError(
                f"got {', '.join(masked) or 'settings of views'} for fixed vectors, which have no frames; "
                "choose contrastive, instance, vector, speaker or adversary, and leave views out"
            )
    default, readers = type(settings)(), {name: _read_by(settings, name) for name in TASKS}
    groups = {task.group or name: "a task's own settings are for that task" for name, task in TASKS.items()}
    reasons, choices = {}, dict[str, None]()
    for setting, reason in (_REASONS | groups).items():
        users = [name for name, read in readers.items() if setting in read]
        changed = getattr(settings, setting, None) != getattr(default, setting, None)
        if changed and not set(users) & set(settings.task_weights):
            reasons[setting] = reason
            choices |= dict.fromkeys(users)
    if reasons:
        raise ConfigError(
            f"the settings of {', '.join(reasons)} would do nothing: "
            f"{', and '.join(dict.fromkeys(reasons.values()))}; leave them out, or choose --objective "
            f"{' or '.join(choices)}"
        )
    for setting, value, reason in (
        ("train.patience", settings.train.patience, "pretraining has no score to wait for"),
        ("views.augment.mixup", settings.views.augment.mixup, "views are not mixed"),
    ):
        if value:
            raise ConfigError(f"got {setting}={value:g}, which would do nothing: {reason}; leave it out")


def _read_by(settings: PretrainSettings, name: str) -> set[str]:
    """Returns the settings that a task reads, of those that not every task does."""
    task, own = TASKS[name], settings.of_task(name)
    needs = task.needs(own, settings.masking)
    read = {task.group or name, *(f"{column}s" for column in ("group", "vector") if column in needs)}
    if not task.masked:
        return read | {"views", "per_speaker"}
    return read | {"masking"} if chooses_frames(own) else read
