"""``affetto finetune``."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.outcome import report_run
from affetto.models.registry import EMBEDDERS, ENCODERS, listed


def finetune(
    manifest: Annotated[Path, typer.Option(help="Table of utterances, from affetto scan.")],
    protocol: Annotated[
        str, typer.Option(help="Who is train, dev and test: a name of affetto protocols, or a YAML file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder; an unfinished one is continued.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help=f"A folder of pretrain, or {listed([*ENCODERS, *EMBEDDERS])}.",
            show_default="cnn",
        ),
    ] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Probe: the encoder stays as it is; one linear layer learns.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(help="network, language, logistic or svm; by default what suits the encoder."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many times to train, with seeds 0, 1, ...", show_default="1"),
    ] = None,
    label_fraction: Annotated[
        float | None, typer.Option(help="Share of the training labels to use.", show_default="1")
    ] = None,
    enrolment: Annotated[
        bool | None,
        typer.Option("--enrolment/--no-enrolment", help="Learn to adapt to enrolled speakers (default)."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings that differ from the defaults.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Single settings, such as train.epochs=3 augment.gain_db=0.")
    ] = None,
) -> None:
    """Train a recogniser under a protocol and predict its dev and test parts."""
    from affetto.corpora.manifest import Manifest
    from affetto.finetuning.run import finetune as run_finetune
    from affetto.finetuning.settings import finetune_settings
    from affetto.runs import RunFolder

    chosen = finetune_settings(
        config,
        tuple(settings or ()),
        protocol=protocol,
        encoder=encoder,
        frozen=frozen or None,
        head=head,
        label_fraction=label_fraction,
        enrolment=enrolment,
        seeds=list(range(seeds)) if seeds else None,
    )
    if chosen.encoder == "cnn" and (not chosen.train_encoder or chosen.head != "network"):
        typer.echo("note: cnn has no weights of its own yet, so what is kept fixed is an untrained network")
    listed = Manifest.read(manifest, root)
    finished = RunFolder(out).done
    run = run_finetune(listed, chosen, out)
    report_run(
        run.path,
        finished,
        f"score it:   affetto evaluate {run.path}",
        f"use it:     affetto predict YOUR_FILE.wav -m {run / 'recogniser'}",
    )
