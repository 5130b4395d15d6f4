"""``affetto pretrain``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.cli.options import Config, Out, Root, Seeds, Words, option, trainer
from affetto.cli.outcome import report_run
from affetto.models.registry import listed, pretrained
from affetto.objectives.tasks import MULTITASK, TASKS

_OBJECTIVES = (
    f"{', '.join([*TASKS, MULTITASK])}; or clap, which learns from labels and words and makes a recogniser."
)
_ENCODERS = f"{listed(pretrained())}; for clap whatever finetune takes."
_GUIDANCE = (
    "Which frames are hidden: random, emotional, energy, voiced, or any column of curves, where it is high."
)

_STEPS = ["use it:     affetto finetune --encoder {run} --manifest ... --protocol ..."]
_CLAP_STEPS = [
    "score it:   affetto evaluate {run}",
    "use it:     affetto predict YOUR_FILE.wav -m {run}/recogniser --prompts 'an angry voice' 'a sad voice'",
]


def _trainer(objective: str | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns what composes settings, and what trains by them; clap is a verb of its own."""
    if objective == "clap":
        return trainer("language")
    from affetto.pretraining.run import pretrain as run_pretrain
    from affetto.pretraining.settings import pretrain_settings

    return pretrain_settings, run_pretrain


def pretrain(
    manifest: Annotated[Path, typer.Option(help="Table of utterances with a speaker each.")],
    out: Out,
    objective: Annotated[str | None, option(_OBJECTIVES, default="contrastive")] = None,
    target: Annotated[
        str | None, option("Of clap: emo, or with gender ml or sl; hard.", default="emo")
    ] = None,
    text: Annotated[
        str | None,
        option(
            "Text encoder of clap: a folder, or a name on the Hugging Face hub.",
            default="FacebookAI/roberta-base",
        ),
    ] = None,
    encoder: Annotated[
        str | None, option(_ENCODERS, default="tdnn; mockingjay and npc bring their own; cnn for clap")
    ] = None,
    groups: Annotated[str | None, option("Column whose groups are positives.", default="cluster")] = None,
    guidance: Annotated[str | None, option(_GUIDANCE, default="random")] = None,
    protocol: Annotated[
        str | None, option("Train on the training speakers of a protocol alone, fold by fold.")
    ] = None,
    seeds: Seeds = None,
    config: Config = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Pretrain an encoder on speech without emotion labels; or, with clap, on voices and words."""
    from affetto.corpora.manifest import Manifest
    from affetto.errors import ConfigError
    from affetto.runs import RunFolder

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
        next_steps = _CLAP_STEPS
    else:
        if target or text:
            raise ConfigError("--target and --text go with --objective clap; add it, or leave them out")
        masking = {"guidance": guidance} if guidance else None
        given |= {"encoder": {"name": encoder} if encoder else None, "groups": groups, "masking": masking}
        given["objective"], next_steps = objective, _STEPS
    settings_of, train = _trainer(objective)
    chosen = settings_of(config, tuple(settings or ()), **given)
    finished = RunFolder(out).done
    run = train(Manifest.read(manifest, root), chosen, out)
    report_run(run.path, finished, *(line.format(run=run.path) for line in next_steps))
