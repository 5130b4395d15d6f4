"""affetto turns recorded speech into emotion recognisers, measured under speaker-disjoint protocols.

The names below are the front door. Each is loaded when it is first asked for, so that importing affetto is
quick and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from affetto._version import __version__ as __version__

if TYPE_CHECKING:
    from affetto import analyse as analyse
    from affetto import annotate as annotate
    from affetto import plots as plots
    from affetto.corpora import scan as scan
    from affetto.corpora.manifest import Manifest as Manifest
    from affetto.errors import AffettoError as AffettoError
    from affetto.evaluation.report import Report as Report
    from affetto.evaluation.run import evaluate as evaluate
    from affetto.export.estimator import EmotionEstimator as EmotionEstimator
    from affetto.export.hub import push_to_hub as push_to_hub
    from affetto.export.onnx import export_onnx as export_onnx
    from affetto.finetuning.run import finetune as finetune
    from affetto.inference.embedding import embed as embed
    from affetto.inference.output import predict as predict
    from affetto.inference.recogniser import Recogniser as Recogniser
    from affetto.models.encoder import Encoder as Encoder
    from affetto.pretraining.run import pretrain as pretrain
    from affetto.protocols.protocol import list_protocols as list_protocols
    from affetto.protocols.protocol import load_protocol as load_protocol
    from affetto.verbs import settings as settings

_HOMES = {
    "AffettoError": "errors",
    "EmotionEstimator": "export.estimator",
    "Encoder": "models.encoder",
    "Manifest": "corpora.manifest",
    "Recogniser": "inference.recogniser",
    "Report": "evaluation.report",
    "embed": "inference.embedding",
    "evaluate": "evaluation.run",
    "export_onnx": "export.onnx",
    "finetune": "finetuning.run",
    "list_protocols": "protocols.protocol",
    "load_protocol": "protocols.protocol",
    "predict": "inference.output",
    "pretrain": "pretraining.run",
    "push_to_hub": "export.hub",
    "scan": "corpora",
    "settings": "verbs",
}
_MODULES = ("analyse", "annotate", "plots")

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"affetto.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'affetto' has no attribute {name!r}")
    return getattr(import_module(f"affetto.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
