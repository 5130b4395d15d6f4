"""Networks, behind the contract of ``encoder.py``, and the folders that hold them."""

from importlib import import_module
from typing import Any

from affetto.models.registry import ENCODERS

_PLACES = {
    "build_encoder": "affetto.models.embedders",
    **{f"{place.split(':')[1]}Settings": place.split(":")[0] for _, place, *_ in ENCODERS.values()},
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when it is asked for: the command line reads ENCODERS without torch.
    return getattr(import_module(_PLACES[name]), name)
