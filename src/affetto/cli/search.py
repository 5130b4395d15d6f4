"""``affetto index`` and ``affetto search``."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import Device, FileRoot, Sources
from affetto.cli.outcome import report_table


def index(
    sources: Sources,
    model: Annotated[str, typer.Option("--model", "-m", help="Recogniser that was trained with language.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the index.")] = Path("index"),
    root: FileRoot = None,
    device: Device = "cpu",
) -> None:
    """Index recordings, so that search finds them by what they sound like.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows in vectors.csv say why.
    """
    from affetto.language import index as run_index

    outcome = run_index(model, sources, out, root=root, device=device)
    report_table(outcome, out, "index")


def search(
    texts: Annotated[list[str], typer.Argument(help="What a voice sounds like: 'a tired, sad woman'.")],
    index: Annotated[Path, typer.Option("--index", "-i", help="Folder of the index.")] = Path("index"),
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many recordings a text.")] = 10,
) -> None:
    """Find the recordings that sound most like a text: one line each, score, seconds and file."""
    from affetto.language import Index

    for text, hits in zip(texts, Index(index).search(texts, count), strict=True):
        if len(texts) > 1:
            typer.echo(f"# {text}")
        for hit in hits:
            typer.echo(f"{hit.score:.3f}\t{hit.start:.2f}\t{hit.end:.2f}\t{hit.file}")
