"""``affetto embed``."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import Device, FileRoot, Sources, option
from affetto.cli.outcome import report_table
from affetto.models.registry import ENCODERS, listed


def embed(
    sources: Sources,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            "-e",
            help=f"Folder of pretrain or a recogniser, or {listed([*ENCODERS, 'functionals', 'd-vector'])}.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=".npy, with a .csv beside it; or .parquet.")],
    frames: Annotated[bool, option("A vector for every frame.", "--frames")] = False,
    layer: Annotated[
        str | None, option("A number from 0, last, mean or all.", default="last, or a recogniser's own")
    ] = None,
    settings: Annotated[
        list[str] | None, option("Setting of an encoder by name, such as encoder.model=ID; repeat.", "--set")
    ] = None,
    root: FileRoot = None,
    device: Device = "cpu",
) -> None:
    """Write the vectors of recordings: one each, or with --frames one a frame.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows say why.
    """
    from affetto.inference.embedding import embed as run_embed
    from affetto.inference.loading import load_representation
    from affetto.models.representation import read_layer

    chosen = None if layer is None else read_layer(layer)
    representation = load_representation(encoder, chosen, tuple(settings or ()), device)
    if representation.untrained:
        typer.echo(f"note: {encoder} has no weights of its own: this is an untrained network", err=True)
    outcome = run_embed(representation, sources, output, frames=frames, root=root)
    size = f"frames of {representation.frame_dim}" if frames else f"vectors of {representation.dim}"
    report_table(outcome, output, "embed", f"; {size}")
