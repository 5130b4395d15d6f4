"""Pretraining tasks: the table from which settings, help, error messages and docs derive.

A new task is a file with a class, its settings, and a row of ``TASKS``. Its file is imported when the task is
asked for, so that the command line lists tasks without torch.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

MULTITASK = "multitask"  # the objective of every task with a weight; any other is the task of its name


class TaskSpec(NamedTuple):
    """A pretraining task; the class of its settings, if it has any, is called ``CLASSSettings``.

    ``build`` makes it from the class, its settings, the encoder, the settings of the mask, and the sizes of
    columns: how many speakers there are, how wide the vectors; ``pooled`` is that of an utterance over time.
    ``needs`` are the columns of a batch, each with the verb that makes it, from its settings and those of the
    mask.
    """

    about: str  # what it does, in Markdown
    place: str  # module and class: a Task on views, or an Objective where masked is set
    build: Callable[..., Any]
    needs: Callable[[Any, Any], dict[str, str]] = lambda settings, masking: {}
    masked: bool = False  # whether it reads whole utterances with hidden frames; else two views of each
    weight: float = 0.0  # in multitask, where no weights are given
    encoder: str = ""  # name of the encoder that comes with it; "" where any will do
    group: str = ""  # the task whose settings it shares; "" for none
    defaults: tuple[tuple[str, Any], ...] = ()  # what differs from the defaults of its settings


def chooses_frames(settings: Any) -> bool:
    """Whether a masked task uses the frames that ``masking`` chooses: npc may take all."""
    return getattr(settings, "frames", "chosen") == "chosen"


def _contrast_needs(settings: Any, masking: Any) -> dict[str, str]:
    more = {"group": {"group": "annotate clusters"}, "similar": {"vector": "annotate speakers"}}
    return {"speaker": "scan", **more.get(settings.positives, {})}


def _curve_needs(settings: Any, masking: Any) -> dict[str, str]:
    guided = masking.curve is not None and chooses_frames(settings)
    asked = {"guide": guided, "intensity": settings.intensity_input or settings.intensity_loss}
    return {name: "annotate intensity" for name, wanted in asked.items() if wanted}


TASKS: dict[str, TaskSpec] = {
    "contrastive": TaskSpec(
        "for an anchor and one positive after the other, minus the logarithm of its share among the "
        "candidates (Khosla et al. 2020, equation 2)",
        "affetto.objectives.views:Contrastive",
        lambda task, settings, encoder, masking, sizes: task(settings, sizes["pooled"]),
        _contrast_needs,
        weight=1.0,
    ),
    "instance": TaskSpec(
        "the same, where the only positive is the utterance's own second view (SimCLR)",
        "affetto.objectives.views:Contrastive",
        lambda task, settings, encoder, masking, sizes: task(settings, sizes["pooled"]),
        _contrast_needs,
        defaults=(("positives", "view"), ("candidates", "all")),
    ),
    "vector": TaskSpec(
        "predicting the speaker-centred embedding itself, by a linear layer",
        "affetto.objectives.views:VectorTask",
        lambda task, settings, encoder, masking, sizes: task(sizes["pooled"], sizes["vector"]),
        lambda settings, masking: {"vector": "annotate speakers"},
    ),
    "speaker": TaskSpec(
        "speaker classification; `speaker.margin` above 0 subtracts a margin from the cosine of the true "
        "speaker",
        "affetto.objectives.views:SpeakerTask",
        lambda task, settings, encoder, masking, sizes: task(settings, sizes["pooled"], sizes["speaker"]),
        lambda settings, masking: {"speaker": "scan"},
        weight=0.1,
    ),
    "adversary": TaskSpec(
        "the same with its gradient reversed, so that the network hides the speaker",
        "affetto.objectives.views:SpeakerTask",
        lambda task, settings, encoder, masking, sizes: task(
            settings, sizes["pooled"], sizes["speaker"], True
        ),
        lambda settings, masking: {"speaker": "scan"},
        group="speaker",
    ),
    "reconstruction": TaskSpec(
        "rebuilding the spectrum where parts of it were hidden",
        "affetto.objectives.views:ReconstructionTask",
        lambda task, settings, encoder, masking, sizes: task(encoder),
    ),
    "mockingjay": TaskSpec(
        "rebuilding hidden frames of whole utterances ([masking](masking.md))",
        "affetto.objectives.masked:MockingjayObjective",
        lambda task, settings, encoder, masking, sizes: task(encoder, settings, masking),
        _curve_needs,
        masked=True,
        encoder="mockingjay",
    ),
    "npc": TaskSpec(
        "predicting frames from their neighbours ([masking](masking.md))",
        "affetto.objectives.masked:NpcObjective",
        lambda task, settings, encoder, masking, sizes: task(encoder, settings, masking),
        _curve_needs,
        masked=True,
        encoder="npc",
    ),
}
"""Pretraining tasks by name, in the order in which they are built."""


def task_class(name: str, suffix: str = "") -> Any:
    """Returns the class of a task, or with a suffix the one of such a name in the same file, or None."""
    module, _, found = TASKS[name].place.partition(":")
    return getattr(import_module(module), found + suffix, None)


def task_settings(name: str) -> Any:
    """Returns the default settings of a task; None where it has none."""
    kind = task_class(TASKS[name].group or name, "Settings")
    return kind and kind(**dict(TASKS[name].defaults))
