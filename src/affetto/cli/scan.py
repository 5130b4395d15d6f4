"""``affetto scan``: a folder of speech to a manifest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.cli.outcome import refuse_input
from affetto.errors import ConfigError


def scan(
    corpus: Annotated[str, typer.Argument(help="A name that affetto corpora lists; table for your own; toy")],
    root: Annotated[
        Path, typer.Argument(help="folder of the corpus; for table also a CSV, TSV, JSONL or Parquet file")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="manifest to write: .csv .tsv .jsonl .parquet")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(help="table: manifest column and the table's own, emotion=Label; repeat"),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="table: regular expression over the path, (?P<speaker>..)_(?P<emotion>..)"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="table: a word and its emotion, wut=anger; repeat")
    ] = None,
    keep_labels: Annotated[
        bool, typer.Option("--keep-labels", help="table: take every word as it is")
    ] = False,
    audio_root: Annotated[
        Path | None, typer.Option(help="table: what its file names are relative to")
    ] = None,
    name: Annotated[str | None, typer.Option(help="table: name of the corpus")] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="table: which table of an audformat database; repeat")
    ] = None,
    speakers: Annotated[int | None, typer.Option(help="toy: how many speakers to make")] = None,
    takes: Annotated[
        int | None, typer.Option(help="toy: how many takes of each sentence and emotion")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="toy: which corpus to make")] = None,
) -> None:
    """Make a manifest: one row an utterance, from the layout that a corpus comes in.

    Exit code 1 says that a manifest was written and that some recordings could not be used.
    """
    from affetto import corpora

    own: dict[str, Any] = {
        "columns": _pairs("--column", column),
        "pattern": pattern,
        "labels": _pairs("--label", label),
        "keep_labels": keep_labels or None,
        "audio_root": audio_root,
        "name": name,
        "tables": table,
    }
    made: dict[str, Any] = {"speakers": speakers, "takes": takes, "seed": seed}
    options = {}
    for kind, values in (("table", own), ("toy", made)):
        given = {key: value for key, value in values.items() if value is not None}
        if given and corpus != kind:
            raise ConfigError(f"{', '.join(sorted(given))}: only for affetto scan {kind}, got {corpus}")
        options.update(given)
    refuse_input(output, [root])
    manifest = corpora.scan(corpus, root, **options)
    manifest.write(output)
    for note in manifest.notes:
        typer.echo(f"note: {note}", err=True)
    for file, message in manifest.errors:
        typer.echo(f"left out: {file}: {message}", err=True)
    if not manifest.speakers:
        typer.echo(
            "note: no speaker is known, and almost every verb asks who speaks; table takes "
            "--column speaker=COLUMN, or --pattern with (?P<speaker>..)",
            err=True,
        )
    counts = f"{len(manifest.speakers)} speakers, {len(manifest.labels)} emotions"
    typer.echo(f"{output}: {len(manifest)} utterances, {counts}")
    if manifest.errors:
        raise typer.Exit(1)


def _pairs(option: str, values: list[str] | None) -> dict[str, str] | None:
    if values is None:
        return None
    pairs = {}
    for value in values:
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            raise ConfigError(f"got {option} {value!r}; it must look like NAME=VALUE")
        pairs[left] = right
    return pairs
