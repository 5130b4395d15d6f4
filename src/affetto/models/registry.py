"""Encoders and embedders that go by a name: the table from which settings, help and docs derive.

A new encoder is a file, with a network ``Name`` and its settings ``NameSettings``, and a row of ``ENCODERS``.
Nothing is imported before a network is asked for: the command line lists the names without torch.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from affetto.models.encoder import Encoder, EncoderShape


class Named(NamedTuple):
    """What is known of an encoder or an embedder before it is imported.

    Attributes:
        about: what it is, and what ``finetune`` makes of it.
        place: module and class of the network; empty for an embedder, which is built elsewhere.
        package: that it needs beside affetto.
        weights: how many published weights it has; empty for none.
        probed: whether ``--frozen`` takes it: it has layers of one width.
        pretrained: whether ``pretrain`` can train its frames.
    """

    about: str
    place: str = ""
    package: str = ""
    weights: str = ""
    probed: bool = True
    pretrained: bool = True

    @property
    def published(self) -> bool:
        """Whether it starts from published weights."""
        return bool(self.weights)


ENCODERS: dict[str, Named] = {
    "cnn": Named(
        "log-mel, convolutions over 25 frames a second, attentive pooling; all trained from scratch",
        "affetto.models.cnn:Cnn",
    ),
    "tdnn": Named(
        "log-mel frames stacked by eight, blocks over time, attentive pooling; all trained from scratch",
        "affetto.models.tdnn:Tdnn",
    ),
    "mockingjay": Named(
        "a small Transformer, the network of [masking](masking.md), attentive pooling; all trained from "
        "scratch",
        "affetto.models.mockingjay:Mockingjay",
    ),
    "npc": Named(
        "convolutions without the centre, the other network of [masking](masking.md), attentive pooling; all "
        "trained from scratch",
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
        package="Resemblyzer",
        weights="1.4 million",
    ),
    "ge2e-spectrum": Named(
        "the fixed layers of `ge2e` beside the log-mel spectrum, blocks over time trained on both",
        "affetto.models.ge2e:Ge2eSpectrum",
        package="Resemblyzer",
        weights="1.4 million",
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
    "d-vector": Named(
        "the speaker embedding of `ge2e`, then logistic regression",
        package="Resemblyzer",
        weights="1.4 million",
    ),
    "ge2e-statistics": Named(
        "statistics of the layers of `ge2e` and `functionals`, then logistic regression",
        package="Resemblyzer",
        weights="1.4 million",
    ),
}
"""Embedders, which give one fixed vector an utterance."""


def network_class(name: str) -> "type[Encoder]":
    """Returns the network of an encoder."""
    found: type[Encoder] = _found(name, "")
    return found


def settings_class(name: str) -> "type[EncoderShape]":
    """Returns the settings of an encoder."""
    found: type[EncoderShape] = _found(name, "Settings")
    return found


def _found(name: str, suffix: str) -> Any:
    module, _, network = ENCODERS[name].place.partition(":")
    return getattr(import_module(module), network + suffix)


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
    """Returns the table of ``docs/training.md``."""
    rows = [
        "| `--encoder` | what | needs | weights from elsewhere |",
        "|---|---|---|---|",
        "| a folder | an encoder that `affetto pretrain` wrote ([pretraining](pretraining.md)) | | what it "
        "started from, if anything |",
    ]
    for name, each in (ENCODERS | EMBEDDERS).items():
        default = " (default)" if name == "cnn" else ""
        rows.append(f"| `{name}`{default} | {each.about} | {each.package} | {each.weights or 'none'} |")
    return "\n".join(rows)


def embed_table() -> str:
    """Returns the table of ``docs/embed.md``."""
    published = [f"`{name}`" for name, each in ENCODERS.items() if each.published]
    untrained = [f"`{name}`" for name, each in ENCODERS.items() if not each.published and each.pretrained]
    fixed = [f"`{name}`" for name, each in ENCODERS.items() if not each.published and not each.pretrained]
    mean = "the mean of the last layer over time | yes"
    return "\n".join(
        [
            "| `--encoder` | a vector is | frames |",
            "|---|---|---|",
            f"| a folder of `affetto pretrain`: a run, or one encoder in it | {mean} |",
            "| a recogniser folder | what its head reads | of its encoder, where it has one |",
            f"| {', '.join(published)}, with published weights | {mean} |",
            f"| {', '.join(untrained)}: **untrained**, and reported as such; to compare with | {mean} |",
            f"| {', '.join(fixed)}, which learns nothing | {mean} |",
            "| `d-vector`, `functionals` | the whole of it | no |",
        ]
    )
