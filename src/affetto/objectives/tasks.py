"""Pretraining tasks: the table from which settings, help, error messages and docs derive.

A new task is a file with a class, and a row of ``TASKS``. Its file is imported when the task is asked for, so
that the command line lists tasks without torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from affetto.masking import MaskSettings
    from affetto.models.encoder import Encoder

MULTITASK = "multitask"
"""The objective that is every task with a weight; any other objective is the task of its name."""


class TaskInputs(NamedTuple):
    """What a task is built from, besides its settings.

    Attributes:
        encoder: what is pretrained.
        masking: which frames are hidden.
        sizes: of the batch's columns: how many speakers, how wide the vectors.
    """

    encoder: "Encoder"
    masking: "MaskSettings"
    sizes: Mapping[str, int]


class TaskSpec(NamedTuple):
    """A pretraining task.

    Attributes:
        about: what it does, in Markdown.
        module: its file.
        build: makes it from the module, its settings and the inputs: a Task on views, or an Objective where
            ``masked`` is set.
        settings: makes the defaults of its settings from the module; None where it has none.
        needs: columns of a batch, each with the verb that makes it; from its settings and the masking.
        masked: whether it reads whole utterances with hidden frames; else two views of each.
        weight: in ``multitask``, where no weights are given.
        encoder: name of the encoder that comes with it; "" where any will do.
        group: name of its settings where that is not its own.
    """

    about: str
    module: str
    build: Callable[[Any, Any, TaskInputs], Any]
    settings: Callable[[Any], Any] | None = None
    needs: Callable[[Any, "MaskSettings"], dict[str, str]] = lambda settings, masking: {}
    masked: bool = False
    weight: float = 0.0
    encoder: str = ""
    group: str = ""


_CONTRAST = {"group": {"group": "annotate clusters"}, "view": {}, "similar": {"vector": "annotate speakers"}}


def _contrast_needs(settings: Any, masking: "MaskSettings") -> dict[str, str]:
    return {"speaker": "scan", **_CONTRAST[settings.positives]}


def chooses_frames(settings: Any) -> bool:
    """Whether a masked task looks at which frames ``masking`` chooses: npc may take all."""
    return getattr(settings, "frames", "chosen") == "chosen"


def _curve_needs(settings: Any, masking: "MaskSettings") -> dict[str, str]:
    guided = masking.curve is not None and chooses_frames(settings)
    asked = {"guide": guided, "intensity": settings.intensity_input or settings.intensity_loss}
    return {name: "annotate intensity" for name, wanted in asked.items() if wanted}


TASKS: dict[str, TaskSpec] = {
    "contrastive": TaskSpec(
        "for an anchor and one positive after the other, minus the logarithm of its share among the "
        "candidates (Khosla et al. 2020, equation 2)",
        "affetto.objectives.contrastive",
        lambda module, settings, given: module.Contrastive(settings, given.encoder.dim),
        lambda module: module.ContrastiveSettings(),
        _contrast_needs,
        weight=1.0,
    ),
    "instance": TaskSpec(
        "the same, where the only positive is the utterance's own second view (SimCLR)",
        "affetto.objectives.contrastive",
        lambda module, settings, given: module.Contrastive(settings, given.encoder.dim),
        lambda module: module.ContrastiveSettings(positives="view", candidates="all"),
        _contrast_needs,
    ),
    "vector": TaskSpec(
        "predicting the speaker-centred embedding itself, by a linear layer",
        "affetto.objectives.view_tasks",
        lambda module, settings, given: module.VectorTask(given.encoder.dim, given.sizes["vector"]),
        needs=lambda settings, masking: {"vector": "annotate speakers"},
    ),
    "speaker": TaskSpec(
        "speaker classification; `speaker.margin` above 0 subtracts a margin from the right speaker's cosine",
        "affetto.objectives.view_tasks",
        lambda module, settings, given: module.SpeakerTask(
            settings, given.encoder.dim, given.sizes["speaker"]
        ),
        lambda module: module.SpeakerSettings(),
        lambda settings, masking: {"speaker": "scan"},
        weight=0.1,
    ),
    "adversary": TaskSpec(
        "the same with its gradient reversed, so that the network hides the speaker",
        "affetto.objectives.view_tasks",
        lambda module, settings, given: module.Adversary(settings, given.encoder.dim, given.sizes["speaker"]),
        lambda module: module.SpeakerSettings(),
        lambda settings, masking: {"speaker": "scan"},
        group="speaker",
    ),
    "reconstruction": TaskSpec(
        "rebuilding the spectrum where parts of it were hidden",
        "affetto.objectives.view_tasks",
        lambda module, settings, given: module.ReconstructionTask(given.encoder),
    ),
    "mockingjay": TaskSpec(
        "rebuilding hidden frames of whole utterances ([masking](masking.md))",
        "affetto.objectives.mockingjay",
        lambda module, settings, given: module.MockingjayObjective(given.encoder, settings, given.masking),
        lambda module: module.MockingjayObjectiveSettings(),
        _curve_needs,
        masked=True,
        encoder="mockingjay",
    ),
    "npc": TaskSpec(
        "predicting frames from their neighbours ([masking](masking.md))",
        "affetto.objectives.npc",
        lambda module, settings, given: module.NpcObjective(given.encoder, settings, given.masking),
        lambda module: module.NpcObjectiveSettings(),
        _curve_needs,
        masked=True,
        encoder="npc",
    ),
}
"""Pretraining tasks by name, in the order in which they are built."""


def task_settings(name: str) -> Any:
    """Returns the default settings of a task; None where it has none."""
    task = TASKS[name]
    return task.settings(import_module(task.module)) if task.settings else None


def build_task(name: str, settings: Any, given: TaskInputs) -> Any:
    """Builds a task."""
    return TASKS[name].build(import_module(TASKS[name].module), settings, given)


def task_table() -> str:
    """Returns the table of ``docs/pretraining.md``."""
    from affetto.masking import MaskSettings

    rows = ["| task | what | asks for the columns |", "|---|---|---|"]
    for name, task in TASKS.items():
        needs = task.needs(task_settings(name), MaskSettings())
        made = [f"`{column}`" + f" (`affetto {verb}`)" * (verb != "scan") for column, verb in needs.items()]
        rows.append(f"| `{name}` | {task.about} | {', '.join(made)} |".replace("|  |", "| |"))
    return "\n".join(rows)
