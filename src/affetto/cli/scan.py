"""``affetto scan``: a folder of speech to a manifest."""

from pathlib import Path
from typing import Any

import typer

from affetto.cli.options import NewManifest, Share, option
from affetto.cli.outcome import fail_if, refuse_input
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
