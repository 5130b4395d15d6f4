"""Encoders and embedders that go by a name: the table from which settings, help and docs derive.

A new encoder is a file, with a network ``Name`` and its settings ``NameSettings``, and a row of
``encoders.json``. Nothing is imported before a network is built: the command line lists the names without
torch.
"""

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from affetto.models.encoder import Encoder, EncoderShape


class Named(NamedTuple):
    """What is known of an encoder or an embedder before it is imported."""

    about: str  # what it is, and what finetune makes of it
    place: str = ""  # module and class of an encoder
    package: str = ""  # that it needs in addition to affetto
    weights: str = ""  # how many published weights it starts from
    probed: bool = True  # whether --frozen takes it: all layers have one width
    pretrained: bool = True  # whether pretrain can train its frames


_ROWS = json.loads(Path(__file__).with_name("encoders.json").read_text(encoding="utf-8"))
ENCODERS = {name: Named(**row) for name, row in _ROWS["encoders"].items()}
EMBEDDERS = {name: Named(**row) for name, row in _ROWS["embedders"].items()}

# What ``annotate speakers`` reads from the GE2E encoder: the speaker embedding; mean and deviation over time
# of all three layers, which hold more of the emotion; the course of the middle layer, which is the content.
SPEAKERS = ("ge2e", "ge2e-statistics", "ge2e-content")


def encoder_classes(name: str) -> "tuple[type[EncoderShape], type[Encoder]]":
    """Imports the settings and the network of an encoder."""
    module, _, network = ENCODERS[name].place.partition(":")
    found = import_module(module)
    return getattr(found, f"{network}Settings"), getattr(found, network)


def probed() -> list[str]:
    """Returns the encoders that ``--frozen`` and ``analyse layers`` take."""
    return [name for name, each in ENCODERS.items() if each.probed]


def pretrained() -> list[str]:
    """Returns the encoders that ``pretrain`` takes."""
    return [name for name, each in ENCODERS.items() if each.pretrained]


def listed(names: Iterable[str]) -> str:
    """Lists names by the package that they need, e.g. ``"cnn, tdnn; with transformers whisper"``."""
    by_package: dict[str, list[str]] = {"": []}
    for name in names:
        by_package.setdefault((ENCODERS | EMBEDDERS)[name].package, []).append(name)
    parts = [(f"with {package} " if package else "") + ", ".join(own) for package, own in by_package.items()]
    return "; ".join(part for part in parts if part)
