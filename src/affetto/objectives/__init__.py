"""Losses and pretraining tasks, one paper a file; the losses alone are functions of tensors.

``contrastive_losses``, ``margin_losses``, ``concordance``, ``mean_distance`` and ``reverse_gradient`` need
nothing else of affetto; ``gathered`` and ``mean_over_processes`` make several processes equal to one.
"""

from importlib import import_module
from typing import Any

from affetto.objectives.tasks import TASKS, TaskSpec

_PLACES = {
    "contrastive_losses": "contrastive",
    "margin_losses": "view_tasks",
    "reverse_gradient": "view_tasks",
    "mean_distance": "objective",
    "concordance": "regress",
    "gathered": "distributed",
    "mean_over_processes": "distributed",
}

__all__ = ["TASKS", "TaskSpec", *_PLACES]


def __getattr__(name: str) -> Any:
    # What needs torch is imported when it is asked for: the command line reads TASKS without it.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
