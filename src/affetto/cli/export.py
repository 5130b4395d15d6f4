"""``affetto export``: recognisers for programs without affetto."""

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
