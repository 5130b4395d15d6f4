"""``affetto export`` and ``affetto push``: recognisers for other programs, and on the Hugging Face hub."""

from pathlib import Path

import typer

from affetto.cli.options import option

app = typer.Typer(help="Write recognisers for programs without affetto.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def onnx(
    recogniser: str = typer.Argument("small", help="small, base, a folder, or a hub id."),
    out: Path = option(..., "Folder to write.", "--out", "-o"),
    int8: bool = option(False, "Store the weights in 8 bits.", "--int8"),
    encoder: Path | None = option(None, "Folder of the model that base needs."),
) -> None:
    """Write a recogniser as an ONNX file: waveforms and their lengths to probabilities."""
    from affetto.export.onnx import MODEL, export_onnx

    made = export_onnx(recogniser, out, encoder=encoder, int8=int8)
    typer.echo(
        f"{made.folder / MODEL}: {made.megabytes:.1f} MB; its answers differ from torch's by at most "
        f"{made.difference:.1g}"
    )


def push(
    recogniser: str = typer.Argument(help="small, base, a run of finetune, a folder, or a hub id."),
    repository: str = typer.Argument(help="OWNER/NAME on the Hugging Face hub."),
    public: bool = option(False, "Let everybody see a repository that is made.", "--public"),
) -> None:
    """Upload a recogniser to the Hugging Face hub, with its model card and scores."""
    from affetto.export.hub import push_to_hub

    typer.echo(push_to_hub(recogniser, repository, public=public))
