"""``affetto finetune``."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import Config, Out, Protocol, Root, Seeds, Words, option, trainer
from affetto.cli.outcome import report_run
from affetto.models.registry import EMBEDDERS, ENCODERS, listed

_ENCODERS = f"A folder of pretrain, or {listed([*ENCODERS, *EMBEDDERS])}."


def finetune(
    manifest: Annotated[Path, option("Table of utterances, from affetto scan.")],
    protocol: Protocol,
    out: Out,
    encoder: Annotated[str | None, typer.Option(help=_ENCODERS, show_default="cnn")] = None,
    frozen: Annotated[
        bool, option("Probe: the encoder stays as it is; one linear layer learns.", "--frozen")
    ] = False,
    head: Annotated[
        str | None,
        option("network, language, logistic or svm; by default what suits the encoder."),
    ] = None,
    seeds: Seeds = None,
    label_fraction: Annotated[
        float | None, option("Share of the training labels to use.", default="1")
    ] = None,
    enrolment: Annotated[
        bool | None,
        option("Learn to adapt to enrolled speakers (default).", "--enrolment/--no-enrolment"),
    ] = None,
    config: Config = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Train a recogniser under a protocol and predict its dev and test parts."""
    from affetto.corpora.manifest import Manifest
    from affetto.finetuning.settings import asked_for
    from affetto.runs import RunFolder

    given = {
        "protocol": protocol,
        "encoder": encoder,
        "frozen": frozen or None,
        "head": head,
        "label_fraction": label_fraction,
        "enrolment": enrolment,
        "seeds": list(range(seeds)) if seeds else None,
    }
    words = tuple(settings or ())
    settings_of, train = trainer(asked_for(config, words, **given).get("head"))
    chosen = settings_of(config, words, **given)
    if chosen.untrained:
        note = "has no weights of its own yet, so what is kept fixed is an untrained network"
        typer.echo(f"note: {chosen.recipe} {note}")
    listed = Manifest.read(manifest, root)
    finished = RunFolder(out).done
    run = train(listed, chosen, out)
    report_run(
        run.path,
        finished,
        f"score it:   affetto evaluate {run.path}",
        f"use it:     affetto predict YOUR_FILE.wav -m {run / 'recogniser'}",
    )
