"""Arguments and options that several verbs share, how a verb runs, and what it prints at its end."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.errors import ConfigError, unknown

if TYPE_CHECKING:
    from affetto.inference.engine import OnRay
    from affetto.inference.writers import Outcome


def option(default: Any, text: str, *names: str, shown: str | bool = True, **more: Any) -> Any:
    """Returns an option with a help text; ``shown`` is what the help gives for a default of None."""
    return typer.Option(default, *names, help=text, show_default=shown, **more)


Table = Annotated[Path, typer.Argument(help="Table of utterances, from affetto scan.")]
Sources = Annotated[list[Path], typer.Argument(help="Recordings, folders, manifests (.csv .jsonl .parquet).")]
Words = Annotated[list[str] | None, typer.Argument(help="Settings, NAME=VALUE; an error lists all names.")]
NewManifest = Annotated[Path, option(..., "manifest to write: .csv .tsv .jsonl .parquet", "--output", "-o")]
Out = Annotated[Path, option(..., "Run folder; an unfinished one is continued.", "--out", "-o")]
Protocol = Annotated[
    str, option(..., "Who is train, dev and test: a name of affetto protocols, or a YAML file.")
]
Seeds = Annotated[int | None, option(..., "How many times to train, with seeds 0, 1, ...", shown="1", min=1)]
Config = Annotated[Path | None, option(..., "YAML file of settings that differ from the defaults.")]
Root = Annotated[Path | None, option(..., "Folder of the recordings, where it has moved.")]
FileRoot = Annotated[Path | None, option(..., "Folder that a manifest's file names are relative to.")]
Channel = Annotated[
    int | None,
    option(..., "The only channel to read, from 1: a speaker of a call.", shown="all, mixed", min=1),
]
Share = Annotated[
    str | None,
    option(
        ...,
        "Only a share of the rows, I/N, e.g. 3/8; affetto merge puts all N together.",
        "--shard",
        shown="all rows",
    ),
]
EngineName = Annotated[
    str | None,
    option(..., "ray: on the workers of a Ray cluster, or of this machine.", "--engine", shown="none"),
]
Workers = Annotated[
    int | None, option(..., "With --engine ray: how many workers.", shown="one a core", min=1)
]
Gpus = Annotated[
    float, option(..., "With --engine ray: the share of a GPU that a worker takes, as 0.5.", min=0)
]
Device = Annotated[
    str, option(..., "Where networks run: auto (a CUDA GPU where there is one), cpu, cuda, cuda:1, mps.")
]
AnyEncoder = Annotated[str | None, option(..., "Encoder that must have made the vectors.", shown="any")]
MODEL = (
    "Recogniser: small or base, which come with affetto; a folder (./small where one is called so); or an "
    "id on the Hugging Face hub. What base needs can be a folder: encoder.model=FOLDER after the sources."
)
DEFAULT_MODEL = "small"


def named_or_small(name: str | None, instead: str) -> str:
    """Returns the recogniser that is named; else the small one, described on standard error.

    ``instead`` is the option that names another.
    """
    if name is not None:
        return name
    from affetto.models.checkpoint import find_recogniser, read_config

    config = read_config(find_recogniser(DEFAULT_MODEL))
    labels = ", ".join(config["labels"])
    made = f"recogniser {DEFAULT_MODEL}, made from {config['made_from']}; it tells {labels}"
    typer.echo(f"{made}; name another with {instead}", err=True)
    return DEFAULT_MODEL


def chosen_engine(name: str | None, workers: int | None, gpus: float) -> "OnRay | None":
    """Returns the engine that is named; None without one."""
    if name is None and (workers is not None or gpus):
        raise ConfigError("--workers and --gpus are for --engine ray; add it, or leave them out")
    if name not in (None, "ray"):
        raise ConfigError(unknown("engine", str(name), ["ray"]))
    if name is None:
        return None
    from affetto.inference.engine import OnRay

    return OnRay(workers, gpus)


def without_words(sources: list[Path]) -> tuple[list[Path], list[str]]:
    """Returns the recordings among what was given, and the settings, such as ``encoder.model=FOLDER``."""
    words = [str(word) for word in sources if str(word).startswith("encoder.") and "=" in str(word)]
    recordings = [source for source in sources if str(source) not in words]
    if not recordings:
        raise ConfigError("got settings and no recordings; name files, folders or manifests before them")
    return recordings, words


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
    from affetto.runs import META, RunFolder, read_json

    chosen_device(str(more.get("device", "cpu")))  # one that is not there leaves no folder behind
    table, finished = Manifest.read(manifest, root), RunFolder(out).done
    run = verb(table, settings, out, **more)
    if os.environ.get("RANK", "0") != "0":
        return run, {}
    if finished:
        typer.echo("finished before; nothing to do")
    return run, read_json(run / META)


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
        typer.echo(f"{output} is there already, and nothing was done; remove it to {verb} again", err=True)
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
