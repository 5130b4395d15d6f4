"""``affetto scan``: a folder of speech to a manifest."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from affetto.cli.outcome import NewManifest, refuse_input
from affetto.errors import ConfigError

_Words = list[str] | None


def scan(
    corpus: Annotated[str, Argument(help="A name that affetto corpora lists; table for your own; toy")],
    root: Annotated[Path, Argument(help="folder; for table also a CSV, TSV, JSONL or Parquet file")],
    output: NewManifest,
    column: Annotated[
        _Words, Option(help="table: manifest column and the table's own, emotion=Label; repeat")
    ] = None,
    pattern: Annotated[
        str | None, Option(help="table: regular expression over the path, (?P<speaker>..)_(?P<emotion>..)")
    ] = None,
    label: Annotated[_Words, Option(help="table: a word and its emotion, wut=anger; repeat")] = None,
    keep_labels: Annotated[bool, Option("--keep-labels", help="table: take every word as it is")] = False,
    audio_root: Annotated[Path | None, Option(help="table: what its file names are relative to")] = None,
    name: Annotated[str | None, Option(help="table: name of the corpus")] = None,
    table: Annotated[_Words, Option(help="table: which table of an audformat database; repeat")] = None,
    speakers: Annotated[int | None, Option(help="toy: how many speakers to make")] = None,
    takes: Annotated[int | None, Option(help="toy: how many takes of each sentence and emotion")] = None,
    seed: Annotated[int | None, Option(help="toy: which corpus to make")] = None,
) -> None:
    """Make a manifest: one row an utterance, from the layout that a corpus comes in.

    Exit code 1 says that a manifest was written and that some recordings could not be used.
    """
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
    _write(corpus, root, output, options)


def _write(corpus: str, root: Path, output: Path, options: dict[str, Any]) -> None:
    from affetto import corpora

    manifest = corpora.scan(corpus, root, **options)
    manifest.write(output)
    notes = [f"note: {note}" for note in manifest.notes]
    notes += [f"left out: {file}: {message}" for file, message in manifest.errors]
    if not manifest.speakers:
        notes.append(
            "note: no speaker is known, and almost every verb asks who speaks; table takes "
            "--column speaker=COLUMN, or --pattern with (?P<speaker>..)"
        )
    for note in notes:
        typer.echo(note, err=True)
    counts = f"{len(manifest.speakers)} speakers, {len(manifest.labels)} emotions"
    typer.echo(f"{output}: {len(manifest)} utterances, {counts}")
    if manifest.errors:
        raise typer.Exit(1)


def _pairs(option: str, values: _Words) -> dict[str, str] | None:
    if values is None:
        return None
    pairs = {}
    for value in values:
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            raise ConfigError(f"got {option} {value!r}; it must look like NAME=VALUE")
        pairs[left] = right
    return pairs
