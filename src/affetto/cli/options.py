"""Arguments and options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def option(text: str, *names: str, default: str | bool = True, **more: Any) -> Any:
    """Returns an option with a help text; ``default`` is what the help shows where the default is None."""
    return typer.Option(*names, help=text, show_default=default, **more)


Table = Annotated[Path, typer.Argument(help="Table of utterances, from affetto scan.")]
Sources = Annotated[list[Path], typer.Argument(help="Recordings, folders, manifests (.csv .jsonl .parquet).")]
Words = Annotated[list[str] | None, typer.Argument(help="Single settings, such as train.epochs=3.")]
Out = Annotated[Path, option("Run folder; an unfinished one is continued.", "--out", "-o")]
Protocol = Annotated[str, option("Who is train, dev and test: a name of affetto protocols, or a YAML file.")]
Seeds = Annotated[int | None, option("How many times to train, with seeds 0, 1, ...", default="1", min=1)]
Config = Annotated[Path | None, option("YAML file of settings that differ from the defaults.")]
Root = Annotated[Path | None, option("Folder of the recordings, where it has moved.")]
FileRoot = Annotated[Path | None, option("Folder that a manifest's file names are relative to.")]
Device = Annotated[str, option("Where networks run: cpu, cuda, ...")]
AnyEncoder = Annotated[str | None, option("Encoder that must have made the vectors.", default="any")]


def trainer(head: object) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns what makes settings of names, and what trains by them; the head of texts has its own."""
    if head == "language":
        from affetto.language import language_settings, pretrain_language

        return language_settings, pretrain_language
    from affetto.finetuning.run import finetune
    from affetto.finetuning.settings import finetune_settings

    return finetune_settings, finetune
