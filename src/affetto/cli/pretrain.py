"""``affetto pretrain``."""

import os
from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    manifest: Annotated[Path, typer.Option(help="Table of utterances with a speaker each.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder; an unfinished one is continued.")],
    objective: Annotated[
        str | None,
        typer.Option(help="contrastive, mockingjay, npc, or multitask.", show_default="contrastive"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="tdnn, cnn, mockingjay, npc; with Resemblyzer ge2e.",
            show_default="tdnn; mockingjay and npc bring their own",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column whose groups are positives, or a control: random:COLUMN, duration:K, loudness:K, "
            "purity:SHARE.",
            show_default="cluster",
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="What leads the frames that are hidden: random, emotional, energy, voiced, low-intensity, "
            "shuffled-intensity, as-released, random-as-released.",
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
    """Pretrain an encoder on speech without emotion labels."""
    from affetto.corpora.manifest import Manifest
    from affetto.recipes.pretrain import pretrain as run_pretrain
    from affetto.recipes.tasks import pretrain_settings
    from affetto.runs import RunFolder

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
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks for all
        return
    if finished:
        typer.echo("finished before; nothing to do")
    typer.echo(f"run folder: {run.path}")
    typer.echo(f"use it:     affetto finetune --encoder {run.path} --manifest ... --protocol ...")
