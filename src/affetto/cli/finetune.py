"""``affetto pretrain`` and ``affetto finetune``: an encoder or a recogniser from recordings."""

from pathlib import Path
from typing import Any

import typer

from affetto.cli.options import (
    Config,
    Device,
    Out,
    Protocol,
    Root,
    Seeds,
    Words,
    option,
    report_run,
    run_verb,
    trainer,
)
from affetto.errors import ConfigError
from affetto.models.registry import EMBEDDERS, ENCODERS, listed, pretrained
from affetto.objectives.tasks import MULTITASK, TASKS

_OBJECTIVES = (
    f"{', '.join([*TASKS, MULTITASK])}; or clap, which learns from labels and words and makes a recogniser."
)
_PRETRAINED = (
    f"{listed(pretrained())}, the folder of a published model, or fixed vectors (whisper-means), on top "
    "of which a network learns; for clap whatever finetune takes."
)
_GUIDANCE = (
    "Which frames are hidden: random, emotional, energy, voiced, or any column of curves, where it is high."
)
_NEXT = "use it:     affetto finetune --encoder {run} --manifest ... --protocol ..."
_CLAP_STEPS = """\
score it:   affetto evaluate {run}
use it:     affetto predict YOUR_FILE.wav -m {run}/recogniser --prompts 'an angry voice' 'a sad voice'"""


def pretrain(
    out: Out,
    manifest: Path = option(..., "Table of utterances with a speaker each."),
    objective: str | None = option(None, _OBJECTIVES, shown="contrastive"),
    target: str | None = option(None, "Of clap: emo, or with gender ml or sl; hard.", shown="emo"),
    text: str | None = option(
        None,
        "Text encoder of clap: a folder, or a name on the Hugging Face hub.",
        shown="FacebookAI/roberta-base",
    ),
    encoder: str | None = option(None, _PRETRAINED, shown="tdnn; mockingjay, npc their own; cnn for clap"),
    groups: str | None = option(None, "Column whose groups are positives.", shown="cluster"),
    guidance: str | None = option(None, _GUIDANCE, shown="random"),
    protocol: str | None = option(None, "Train on the training speakers of a protocol alone, fold by fold."),
    seeds: Seeds = None,
    device: Device = "auto",
    config: Config = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Pretrain an encoder on speech without emotion labels; or, with clap, on voices and words."""
    given: dict[str, Any] = {"protocol": protocol, "seeds": list(range(seeds)) if seeds else None}
    if objective == "clap":
        if groups or guidance:
            raise ConfigError("--groups and --guidance are for objectives without labels; leave them out")
        if protocol is None and config is None:
            raise ConfigError(
                "clap learns from labels, so that it must know whom it may not learn from: name a --protocol"
            )
        language = {"text": {"model": text}} if text else None
        given |= {"encoder": encoder, "clap": {"target": target} if target else None, "language": language}
        (settings_of, train), next_steps = trainer("language"), _CLAP_STEPS
    else:
        from affetto.pretraining.run import pretrain as train
        from affetto.pretraining.settings import pretrain_settings as settings_of

        if target or text:
            raise ConfigError("--target and --text go with --objective clap; add it, or leave them out")
        masking = {"guidance": guidance} if guidance else None
        given |= {"encoder": {"name": encoder} if encoder else None, "groups": groups, "masking": masking}
        given["objective"], next_steps = objective, _NEXT
    chosen = settings_of(config, tuple(settings or ()), **given)
    report_run(*run_verb(train, manifest, root, chosen, out, device=device), next_steps)


_ENCODERS = f"Folder of pretrain or of a published model, or {listed([*ENCODERS, *EMBEDDERS])}."
_STEPS = """\
score it:   affetto evaluate {run}
use it:     affetto predict YOUR_FILE.wav -m {run}/recogniser"""


def finetune(
    protocol: Protocol,
    out: Out,
    manifest: Path = option(..., "Table of utterances, from affetto scan."),
    encoder: str | None = option(None, _ENCODERS, shown="cnn"),
    frozen: bool = option(False, "Probe: the encoder stays as it is; one linear layer learns.", "--frozen"),
    head: str | None = option(None, "network, language, logistic or svm; by default what suits the encoder."),
    seeds: Seeds = None,
    label_fraction: float | None = option(None, "Share of the training labels to use.", shown="1"),
    enrolment: bool | None = option(None, "Learn to adapt to enrolled speakers (default)."),
    device: Device = "auto",
    config: Config = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Train a recogniser under a protocol and predict its dev and test parts."""
    from affetto.finetuning.settings import asked_for

    given: dict[str, Any] = {"protocol": protocol, "encoder": encoder, "frozen": frozen or None, "head": head}
    given |= {"label_fraction": label_fraction, "enrolment": enrolment}
    given["seeds"] = list(range(seeds)) if seeds else None
    words = tuple(settings or ())
    settings_of, train = trainer(asked_for(config, words, **given).get("head"))
    chosen = settings_of(config, words, **given)
    if chosen.untrained:
        note = "has no weights of its own yet, so what is kept fixed is an untrained network"
        typer.echo(f"note: {chosen.recipe} {note}")
    report_run(*run_verb(train, manifest, root, chosen, out, device=device), _STEPS)
