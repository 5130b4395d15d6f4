"""``affetto finetune``: a recogniser from labelled recordings."""

from pathlib import Path
from typing import Any

import typer

from affetto.cli.options import Config, Device, Out, Protocol, Root, Seeds, Words, option
from affetto.cli.outcome import report_run, run_verb, trainer
from affetto.models.registry import EMBEDDERS, ENCODERS, listed

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
