"""``affetto manifest``: describes, checks, relabels, joins and packs manifests."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import NewManifest, fail_if, option, refuse_input

app = typer.Typer(help="Describe, check, relabel, join and pack manifests.", no_args_is_help=True)

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
    Shards are compared with their hashes. Exit code 1 says that something is wrong.
    """
    from affetto.corpora.manifest import Manifest
    from affetto.corpora.packing import damaged_shards

    table = Manifest.read(manifest, root)
    found = [*damaged_shards(table), *table.problems()]
    for problem in found:
        typer.echo(f"{problem.kind}: {problem.key}: {problem.message}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.kind for each in found).most_common())
    typer.echo(f"{len(table)} rows, {len(found)} problems{': ' if kinds else ''}{kinds}")
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


@app.command()
def pack(
    manifest: _Path,
    output: Path = option(..., "folder of the shards; an unfinished one is continued", "--output", "-o"),
    form: str = option(
        "flac", "flac, which keeps 16 bits exactly, or opus, a quarter of its size", "--format"
    ),
    root: _Root = None,
) -> None:
    """Write all recordings, mono at 16 kHz, into a few large tar files, and a manifest of them.

    Exit code 1 says that some recordings could not be read; left-out.csv names them.
    """
    from affetto.corpora import packing
    from affetto.corpora.manifest import Manifest

    packed = packing.pack(Manifest.read(manifest, root), output, form)
    shards = f"{packed.shards} shard{'s' * (packed.shards != 1)}, {packed.size / 2**20:.1f} MiB"
    left = f"; {packing.LEFT_OUT} there says why" if packed.left_out else ""
    counts = f"{packed.rows} utterances in {shards}, {packed.left_out} could not be read{left}"
    typer.echo(f"{output / packing.PACKED}: {counts}")
    fail_if(packed.left_out)
