"""affetto turns recorded speech into emotion recognisers, measured under speaker-disjoint protocols.

The names below are the front door; each is loaded when it is first asked for, so that importing affetto costs
nothing and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from affetto._version import __version__ as __version__

if TYPE_CHECKING:
    from affetto.corpora import scan
    from affetto.corpora.manifest import Manifest
    from affetto.errors import AffettoError
    from affetto.evaluation.run import evaluate
    from affetto.finetuning.run import finetune
    from affetto.finetuning.settings import finetune_settings
    from affetto.inference import Recogniser
    from affetto.protocols.protocol import list_protocols, load_protocol

_HOMES = {
    "AffettoError": "affetto.errors",
    "Manifest": "affetto.corpora.manifest",
    "Recogniser": "affetto.inference",
    "evaluate": "affetto.evaluation.run",
    "finetune": "affetto.finetuning.run",
    "finetune_settings": "affetto.finetuning.settings",
    "list_protocols": "affetto.protocols.protocol",
    "load_protocol": "affetto.protocols.protocol",
    "scan": "affetto.corpora",
}

__all__ = [
    "AffettoError",
    "Manifest",
    "Recogniser",
    "evaluate",
    "finetune",
    "finetune_settings",
    "list_protocols",
    "load_protocol",
    "scan",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'affetto' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
