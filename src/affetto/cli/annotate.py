"""``affetto annotate``: adds what can be known without labels to a manifest."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Add what can be known without labels to a manifest.", no_args_is_help=True)

_Manifest = Annotated[Path, typer.Argument(help="Table of utterances, from affetto scan.")]
_Out = Annotated[
    Path, typer.Option("--out", "-o", help="Run folder, with manifest.csv; an unfinished one is continued.")
]
_Root = Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")]


@app.command()
def speakers(
    manifest: _Manifest,
    out: _Out,
    encoder: Annotated[
        str,
        typer.Option(
            help="ge2e (with Resemblyzer), a FILE.onnx that takes 80-bin Kaldi filterbanks, or an x-vector "
            "model of transformers: a folder or a hub id."
        ),
    ] = "ge2e",
    name: Annotated[str, typer.Option(help="Name of the column and its array.")] = "speaker_embedding",
    taper: Annotated[
        str, typer.Option(help="Window of an ONNX model's filterbanks: hamming (WeSpeaker) or povey.")
    ] = "hamming",
    device: Annotated[str, typer.Option(help="Where the encoder runs: cpu, cuda, ...")] = "cpu",
    root: _Root = None,
) -> None:
    """Write one speaker embedding an utterance: an array, and a column that names its rows.

    Exit code 1 says that some recordings could not be read; their cells are empty.
    """
    import json

    from affetto.config import build
    from affetto.corpora.manifest import Manifest
    from affetto.recipes.annotate import MANIFEST, META, SpeakerSettings, annotate_speakers
    from affetto.runs import RunFolder

    settings = build(SpeakerSettings, {"encoder": encoder, "name": name, "taper": taper})
    if RunFolder(out).done:
        typer.echo("finished before; nothing to do")
    run = annotate_speakers(Manifest.read(manifest, root), settings, out, device=device)
    meta = json.loads((run / META).read_text(encoding="utf-8"))
    for key, reason in meta["unreadable"].items():
        typer.echo(f"unreadable: {key}: {reason}")
    typer.echo(
        f"{run / MANIFEST}: {meta['utterances']} utterances, {meta['vectors']} vectors of "
        f"{meta['encoder']}, {len(meta['unreadable'])} unreadable"
    )
    if meta["unreadable"]:
        raise typer.Exit(1)
