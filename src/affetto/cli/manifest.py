"""``affetto manifest``: describes, checks, relabels and joins manifests."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import NewManifest, option
from affetto.cli.outcome import fail_if, refuse_input

app = typer.Typer(help="Describe, check, relabel and join manifests.", no_args_is_help=True)

_Path = Annotated[Path, typer.Argument(help="the manifest")]
_Root = Annotated[Path | None, option(..., "folder that its file names are relative to")]


@app.command()
def describe(manifest: _Path, root: _Root = None) -> None:
    """Print counts, hours, speakers, classes by gender and sample rates."""
    from affetto.corpora.manifest import Manifest

    typer.echo(Manifest.read(manifest, root).describe())


@app.command()
def validate(manifest: _Path, root: _Root = None) -> None:
    """Decode every row; name those unreadable, silent, clipped, duplicate, contradictory, alike in spelling.

    Also those whose header is wrong, and those with channels that are silent or cancel each other out.
    Exit code 1 says that something is wrong.
    """
    from affetto.corpora.manifest import Manifest

    table = Manifest.read(manifest, root)
    found = table.problems()
    for problem in found:
        typer.echo(f"{problem.kind}: {problem.key}: {problem.message}")
    typer.echo(f"{len(table)} rows, {len(found)} problems")
    fail_if(found)


@app.command()
def relabel(
    manifest: _Path,
    output: NewManifest,
    label_map: str = option(..., "basic-6, valence-sign, iemocap-4 or another map of a protocol", "--map"),
    drop: bool = option(False, "leave out rows that the map does not name", "--drop"),
    root: _Root = None,
) -> None:
    """Bring the emotions to the classes of a named map, such as valence-sign.

    Without --drop, emotions that the map does not name are refused, with their counts.
    """
    from affetto.corpora.manifest import Manifest

    refuse_input(output, [manifest])
    table = Manifest.read(manifest, root)
    changed = table.relabelled(label_map, drop)
    changed.write(output)
    left = f", {len(table) - len(changed)} left out" if drop else ""
    typer.echo(f"{output}: {len(changed)} utterances, {', '.join(changed.labels)}{left}")


@app.command()
def join(output: NewManifest, manifests: list[Path] = typer.Argument(help="two manifests or more")) -> None:
    """Put several corpora into one manifest, as leave-one-corpus-out needs it."""
    from affetto.corpora.manifest import Manifest

    refuse_input(output, manifests)
    joined = Manifest.join([Manifest.read(path) for path in manifests])
    joined.write(output)
    for note in joined.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{output}: {len(joined)} utterances of {', '.join(joined.corpora)}")
