"""Losses and pretraining tasks; these losses are functions of tensors alone."""

from importlib import import_module
from typing import Any

from affetto.objectives.tasks import TASKS, TaskSpec

_PLACES = {
    "contrastive_losses": "views",
    "margin_losses": "views",
    "reverse_gradient": "views",
    "mean_distance": "objective",
    "concordance": "supervised",
    "gathered": "objective",
    "mean_over_processes": "objective",
}

__all__ = ["TASKS", "TaskSpec", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when it is asked for: the command line reads TASKS without torch.
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
