"""``affetto scan``, ``corpora``, ``protocols`` and ``manifest``: a folder of speech to a manifest."""

from collections import Counter
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer

from affetto.cli.options import NewManifest, Share, fail_if, option, refuse_input
from affetto.errors import ConfigError

_Words = list[str] | None
_NO_SPEAKER = (
    "note: no speaker is known, and almost every verb asks who speaks; table takes --column speaker=COLUMN, "
    "or --pattern with (?P<speaker>..)"
)


def scan(
    output: NewManifest,
    corpus: str = typer.Argument(help="A name that affetto corpora lists; table for your own; toy"),
    root: Path = typer.Argument(help="folder; for table also a CSV, TSV, JSONL, Parquet or tar file"),
    column: _Words = option(None, "table: manifest column and the table's own, emotion=Label; repeat"),
    pattern: str | None = option(None, "table: regular expression on paths, (?P<speaker>..)_(?P<emotion>..)"),
    label: _Words = option(None, "table: a word and its emotion, wut=anger; repeat"),
    keep_labels: bool = option(False, "table: take every word as it is", "--keep-labels"),
    audio_root: Path | None = option(None, "table: what its file names are relative to"),
    name: str | None = option(None, "table: name of the corpus"),
    table: _Words = option(None, "table: which table of an audformat database; repeat"),
    speakers: int | None = option(None, "toy: how many speakers to make"),
    takes: int | None = option(None, "toy: how many takes of each sentence and emotion"),
    seed: int | None = option(None, "toy: which corpus to make"),
    shard: Share = None,
) -> None:
    """Make a manifest: one row an utterance, from the layout that a corpus comes in.

    Exit code 1 says that a manifest was written and that some recordings could not be used.
    """
    from affetto import corpora
    from affetto.shards import Shard, describe_part

    own = dict[str, Any](pattern=pattern, audio_root=audio_root, name=name, tables=table)
    own |= {"columns": _pairs("--column", column), "labels": _pairs("--label", label)}
    own |= {"keep_labels": keep_labels or None}
    options: dict[str, Any] = {}
    for kind, values in (("table", own), ("toy", {"speakers": speakers, "takes": takes, "seed": seed})):
        given = {key: value for key, value in values.items() if value is not None}
        if given and corpus != kind:
            raise ConfigError(f"{', '.join(sorted(given))}: only for affetto scan {kind}, got {corpus}")
        options.update(given)
    refuse_input(output, [root])
    share = Shard.read(shard)
    with corpora.dividing(share) as division:
        manifest = corpora.scan(corpus, root, **options)
    manifest.write(output)
    if share:
        places, rows = [place for place, _ in division.rows], [row for _, row in division.rows]
        settings = {"verb": "scan", "corpus": corpus, "listed": division.sha256, "options": str(options)}
        describe_part(output, share, places, settings, rows=rows, failed=len(manifest.errors))
    notes = [f"note: {note}" for note in manifest.notes]
    notes += [f"left out: {file}: {message}" for file, message in manifest.errors]
    if not manifest.speakers:
        notes.append(_NO_SPEAKER)
    for note in notes:
        typer.echo(note, err=True)
    counts = f"{len(manifest.speakers)} speakers, {len(manifest.labels)} emotions"
    counts += f", {len(manifest.errors)} left out" if manifest.errors else ""
    typer.echo(f"{output}: {len(manifest)} utterances, {counts}")
    fail_if(manifest.errors)


def _pairs(option: str, values: _Words) -> dict[str, str] | None:
    pairs = {}
    for value in values or ():
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            raise ConfigError(f"got {option} {value!r}; it must look like NAME=VALUE")
        pairs[left] = right
    return pairs or None


def corpora(name: str | None = typer.Argument(None, help="show this one alone")) -> None:
    """List the corpora that scan knows: licence, size, classes, how to obtain, how the folder must look."""
    from affetto.corpora import known_corpora
    from affetto.errors import ManifestError, unknown

    known = known_corpora()
    if name is not None and name not in known:
        raise ManifestError(unknown("corpus", name, known))
    for about in (corpus.about for corpus in known.values() if name in (None, corpus.about.name)):
        typer.echo(f"{about.name}  {about.title}")
        if not about.layout:
            continue
        facts = {
            "language": about.language,
            "size": about.size,
            "emotions": about.classes or "none labelled; for pretraining",
            "licence": about.licence,
            "obtain": about.obtain,
        }
        for kind, value in facts.items():
            typer.echo(f"  {kind.ljust(9)} {value}")
        typer.echo(f"  folder\n{indent(about.layout, '    ')}\n")


def protocols(
    name: str | None = typer.Argument(None, help="show this one, with published figures and caveats"),
) -> None:
    """List the protocols, or show one."""
    from affetto.protocols import list_protocols, load_protocol
    from affetto.protocols.protocol import PAIR

    if name is not None:
        typer.echo(load_protocol(name).describe())
        return
    known = {each: load_protocol(each).description for each in list_protocols()}
    known[PAIR] = "learn from one corpus, test on another: crema-d-to-ravdess"
    for each, description in known.items():
        typer.echo(f"{each.ljust(max(map(len, known)))}  {description}")


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
