"""Options that verbs of training share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder; an unfinished one is continued.")]
Seeds = Annotated[
    int | None,
    typer.Option(min=1, help="How many times to train, with seeds 0, 1, ...", show_default="1"),
]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings that differ from the defaults.")]
Root = Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")]
