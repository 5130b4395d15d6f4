"""``affetto pretrain``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.cli.outcome import report_run
from affetto.models.registry import listed, pretrained
from affetto.objectives.tasks import MULTITASK, TASKS


def pretrain(
    manifest: Annotated[Path, typer.Option(help="Table of utterances with a speaker each.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder; an unfinished one is continued.")],
    objective: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join([*TASKS, MULTITASK])}; or clap, which learns from labels and words and makes a "
            "recogniser.",
            show_default="contrastive",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Of clap: emo, or with gender ml or sl; hard.", show_default="emo"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Text encoder of clap: a folder, or a name on the Hugging Face hub.",
            show_default="FacebookAI/roberta-base",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help=f"{listed(pretrained())}; for clap whatever finetune takes.",
            show_default="tdnn; mockingjay and npc bring their own; cnn for clap",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column whose groups are positives: cluster, text, or any other.", show_default="cluster"
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="Which frames are hidden: random, emotional, energy, voiced, or where the curve of a column "
            "that you name is high.",
            show_default="random",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only hear the training speakers of a protocol, fold by fold.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many times to pretrain, with seeds 0, 1, ...", show_default="1"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings that differ from the defaults.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Single settings, such as train.epochs=3 weights.speaker=0.1.")
    ] = None,
) -> None:
    """Pretrain an encoder on speech without emotion labels; or, with clap, on voices and words."""
    from affetto.corpora.manifest import Manifest
    from affetto.errors import ConfigError
    from affetto.pretraining.run import pretrain as run_pretrain
    from affetto.pretraining.settings import pretrain_settings
    from affetto.runs import RunFolder

    if objective == "clap":
        if groups or guidance:
            raise ConfigError("--groups and --guidance are for objectives without labels; leave them out")
        given = {"encoder": encoder, "protocol": protocol, "seeds": list(range(seeds)) if seeds else None}
        _clap(manifest, out, target, text, config, root, tuple(settings or ()), **given)
        return
    if target or text:
        raise ConfigError("--target and --text go with --objective clap; add it, or leave them out")
    chosen = pretrain_settings(
        config,
        tuple(settings or ()),
        objective=objective,
        encoder={"name": encoder} if encoder else None,
        groups=groups,
        masking={"guidance": guidance} if guidance else None,
        protocol=protocol,
        seeds=list(range(seeds)) if seeds else None,
    )
    finished = RunFolder(out).done
    run = run_pretrain(Manifest.read(manifest, root), chosen, out)
    use = f"use it:     affetto finetune --encoder {run.path} --manifest ... --protocol ..."
    report_run(run.path, finished, use)


def _clap(
    manifest: Path,
    out: Path,
    target: str | None,
    text: str | None,
    config: Path | None,
    root: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    from affetto.corpora.manifest import Manifest
    from affetto.errors import ConfigError
    from affetto.language import language_settings, pretrain_language
    from affetto.runs import RunFolder

    if given["protocol"] is None and config is None:
        raise ConfigError(
            "clap learns from labels, so that it must know whom it may not learn from: name a --protocol"
        )
    given["clap"] = {"target": target} if target else None
    given["language"] = {"text": {"model": text}} if text else None
    chosen = language_settings(config, settings, **given)
    finished = RunFolder(out).done
    run = pretrain_language(Manifest.read(manifest, root), chosen, out)
    prompts = "--prompts 'an angry voice' 'a sad voice'"
    report_run(
        run.path,
        finished,
        f"score it:   affetto evaluate {run.path}",
        f"use it:     affetto predict YOUR_FILE.wav -m {run / 'recogniser'} {prompts}",
    )
