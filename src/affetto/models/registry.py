"""Encoders and embedders that go by a name: the table from which settings, help and docs derive.

A new encoder is a file, with a network ``Name`` and its settings ``NameSettings``, and a row of ``ENCODERS``.
Nothing is imported before a network is built: the command line lists the names without torch.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from affetto.models.encoder import Encoder, EncoderShape


class Named(NamedTuple):
    """What is known of an encoder or an embedder before it is imported."""

    about: str  # what it is, and what finetune makes of it
    place: str = ""  # module and class of an encoder
    package: str = ""  # that it needs in addition to affetto
    weights: str = ""  # how many published weights it has
    probed: bool = True  # whether --frozen takes it: all layers have one width
    pretrained: bool = True  # whether pretrain can train its frames

    @property
    def published(self) -> bool:
        """Whether it starts from published weights."""
        return bool(self.weights)


_SCRATCH = "attentive pooling; all trained from scratch"
_MASKING = "[masking](masking.md)"
_RESEMBLYZER: dict[str, Any] = {"package": "Resemblyzer", "weights": "1.4 million"}

ENCODERS: dict[str, Named] = {
    "cnn": Named(f"log-mel, convolutions over 25 frames a second, {_SCRATCH}", "affetto.models.cnn:Cnn"),
    "tdnn": Named(
        f"log-mel frames stacked by eight, blocks over time, {_SCRATCH}", "affetto.models.tdnn:Tdnn"
    ),
    "mockingjay": Named(
        f"a small Transformer, the network of {_MASKING}, {_SCRATCH}", "affetto.models.mockingjay:Mockingjay"
    ),
    "npc": Named(
        f"convolutions without the centre, the other network of {_MASKING}, {_SCRATCH}",
        "affetto.models.npc:Npc",
    ),
    "filterbank": Named(
        "the log-mel spectrum itself, mean and deviation over time, one linear layer: a floor",
        "affetto.models.filterbank:Filterbank",
        pretrained=False,
    ),
    "ge2e": Named(
        "three LSTM layers of a speaker encoder, blocks over time, attentive pooling; all fine-tuned",
        "affetto.models.ge2e:Ge2e",
        **_RESEMBLYZER,
    ),
    "ge2e-spectrum": Named(
        "the fixed layers of `ge2e` and the log-mel spectrum, blocks over time trained on both",
        "affetto.models.ge2e:Ge2eSpectrum",
        **_RESEMBLYZER,
        probed=False,
        pretrained=False,
    ),
    "wav2vec2": Named(
        "a speech encoder of Hugging Face transformers, weighted layers, statistics over time; all but its "
        "convolutions fine-tuned",
        "affetto.models.wav2vec2:Wav2Vec2",
        package="transformers",
        weights="94 million",
    ),
    "whisper": Named(
        "Whisper's encoder, fixed, weighted layers, statistics over time",
        "affetto.models.whisper:Whisper",
        package="transformers",
        weights="20 million",
    ),
}
"""Encoders, which give frames."""

EMBEDDERS: dict[str, Named] = {
    "functionals": Named("statistics of log-mel and pitch, then a support vector machine"),
    "d-vector": Named("the speaker embedding of `ge2e`, then logistic regression", **_RESEMBLYZER),
    "ge2e-statistics": Named(
        "statistics of the layers of `ge2e` and `functionals`, then logistic regression", **_RESEMBLYZER
    ),
}
"""Embedders, which give one fixed vector an utterance."""

SPEAKERS = ("ge2e", "ge2e-statistics", "ge2e-content")
"""What ``annotate speakers`` reads from the GE2E encoder: the speaker embedding; mean and deviation over time
of all three layers, which hold more of the emotion; the course of the middle layer, which is the content."""


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


def encoder_table() -> str:
    """Returns the table of names in ``docs/training.md``."""
    rows = ["| `--encoder` | what | needs | weights from elsewhere |", "|---|---|---|---|"]
    for name, each in (ENCODERS | EMBEDDERS).items():
        default = " (default)" if name == "cnn" else ""
        rows.append(f"| `{name}`{default} | {each.about} | {each.package} | {each.weights or 'none'} |")
    return "\n".join(rows)


def embed_table() -> str:
    """Returns the rows of names in the table of ``docs/embed.md``."""
    groups: dict[str, list[str]] = {}
    for name, each in ENCODERS.items():
        random = "**untrained**, and reported as such" if each.pretrained else "nothing to train"
        groups.setdefault("with published weights" if each.published else random, []).append(f"`{name}`")
    mean = "the mean of the last layer over time | yes"
    return "\n".join(f"| {', '.join(names)}, {what} | {mean} |" for what, names in groups.items())
