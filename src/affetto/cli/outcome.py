"""How a verb runs into its folder, and what it prints at its end: what it wrote, and how to continue."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from affetto.errors import ConfigError

if TYPE_CHECKING:
    from affetto.inference.writers import Outcome


def trainer(head: object) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns what makes settings of names, and what trains by them; the language head has its own."""
    if head == "language":
        from affetto.language import language_settings, pretrain_language

        return language_settings, pretrain_language
    from affetto.finetuning.run import finetune
    from affetto.finetuning.settings import finetune_settings

    return finetune_settings, finetune


def run_verb(
    verb: Callable[..., Any], manifest: Path, root: Path | None, settings: object, out: Path, **more: Any
) -> tuple[Any, dict[str, Any]]:
    """Runs a verb; returns its run folder and ``meta.json``, empty but in the first process of torchrun."""
    from affetto.corpora.manifest import Manifest
    from affetto.models.encoder import chosen_device
    from affetto.runs import META, RunFolder

    chosen_device(str(more.get("device", "cpu")))  # one that is not there leaves no folder behind
    table, finished = Manifest.read(manifest, root), RunFolder(out).done
    run = verb(table, settings, out, **more)
    if os.environ.get("RANK", "0") != "0":
        return run, {}
    if finished:
        typer.echo("finished before; nothing to do")
    return run, json.loads((run / META).read_text(encoding="utf-8"))


def report_run(run: Any, meta: dict[str, Any], next_steps: str) -> None:
    """Prints what was left out, where a run folder is, and what to do with it; nothing without ``meta``."""
    if meta:
        unreadable, outside = meta.get("unreadable", {}), meta.get("left_out", {})
        for key, reason in unreadable.items():
            typer.echo(f"left out: {key}: {reason}", err=True)
        counts = [f"{len(unreadable)} that cannot be read"] if unreadable else []
        counts += [
            f"{rows} labelled {label}" if label else f"{rows} without a label"
            for label, rows in outside.items()
        ]
        if counts:
            typer.echo(f"utterances left out: {', '.join(counts)}", err=True)
        typer.echo(f"run folder: {run.path}\n{next_steps.format(run=run.path)}")


def report_table(
    outcome: "Outcome", output: str | Path, verb: str, more: str = "", what: str = "recording"
) -> None:
    """Prints on standard error what was written; exit code 1 where some recordings could not be read."""
    if outcome.finished:
        typer.echo(f"{output} is there already, and nothing was done; remove it to {verb} anew", err=True)
    else:
        resumed = f", {outcome.resumed} of them from before" if outcome.resumed else ""
        counts = f"{outcome.clips} {what}{'s' * (outcome.clips != 1)}{resumed}"
        odd = f", {outcome.warned} with a warning" if outcome.warned else ""
        typer.echo(f"{output}: {counts}, {outcome.failed} could not be read{odd}{more}", err=True)
    fail_if(outcome.failed)


def fail_if(wrong: object) -> None:
    """Ends with exit code 1 where something is wrong."""
    if wrong:
        raise typer.Exit(1)


def refuse_input(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses to write over what is read."""
    for each in inputs:
        if output.exists() and each.exists() and output.samefile(each):
            raise ConfigError(f"{output} is read, and would be written over; name another file with -o")
