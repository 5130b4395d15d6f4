"""``affetto merge``: the outputs of shards as one."""

from pathlib import Path

import typer

from affetto.cli.options import option
from affetto.cli.outcome import fail_if


def merge(
    parts: list[Path] = typer.Argument(help="What the runs with --shard wrote, one for each shard."),
    output: Path = option(..., "What one run without --shard would write.", "--output", "-o"),
) -> None:
    """Put the outputs of all shards together, as one run without --shard writes them, to the byte.

    Exit code 1 says that some recordings could not be read; their rows say why.
    """
    from affetto.merging import merge_parts

    merged = merge_parts(parts, output)
    counts = f"{merged.rows} rows of {merged.parts} shards, {merged.failed} could not be read"
    typer.echo(f"{output}: {counts}", err=True)
    fail_if(merged.failed)
