"""What a verb says at its end: what it wrote, and how to go on."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affetto.errors import ConfigError

if TYPE_CHECKING:
    from affetto.inference.writers import Outcome

NewManifest = Annotated[
    Path, typer.Option("--output", "-o", help="manifest to write: .csv .tsv .jsonl .parquet")
]


def refuse_input(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses to write over what is read.

    Raises:
        ConfigError: that names it.
    """
    for each in inputs:
        if output.exists() and each.exists() and output.samefile(each):
            raise ConfigError(f"{output} is read, and would be written over; name another file with -o")


def report_table(outcome: "Outcome", output: str | Path, verb: str, more: str = "") -> None:
    """Says on standard error what was written, and ends with code 1 when some recordings could not be read.

    Args:
        outcome: of the verb.
        output: what it wrote.
        verb: for "remove it to VERB anew".
        more: is added to the line.
    """
    if outcome.finished:
        typer.echo(f"{output} is there already, and nothing was done; remove it to {verb} anew", err=True)
    else:
        resumed = f", {outcome.resumed} of them from before" if outcome.resumed else ""
        typer.echo(
            f"{output}: {outcome.clips} recordings{resumed}, {outcome.failed} could not be read{more}",
            err=True,
        )
    if outcome.failed:
        raise typer.Exit(1)


def report_finished(finished: bool) -> None:
    """Says that a run folder was finished by an earlier call, if so."""
    if finished:
        typer.echo("finished before; nothing to do")


def report_run(run: Path, finished: bool, *next_steps: str) -> None:
    """Says where a run folder is, and what to do with it; under torchrun the first process speaks for all.

    Args:
        run: the folder.
        finished: whether it was there before.
        next_steps: a line each.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    from affetto.runs import META

    report_finished(finished)
    meta = run / META
    unreadable = json.loads(meta.read_text(encoding="utf-8")).get("unreadable", {}) if meta.exists() else {}
    for key, reason in unreadable.items():
        typer.echo(f"left out: {key}: {reason}", err=True)
    typer.echo(f"run folder: {run}")
    for line in next_steps:
        typer.echo(line)
