"""``affetto annotate``: adds what can be known of utterances to a manifest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.cli.options import AnyEncoder, Device, Out, Root, Table, Words, option
from affetto.models.registry import SPEAKERS

app = typer.Typer(help="Add what can be known of utterances to a manifest.", no_args_is_help=True)


def _run(
    verb: Callable[..., Any], manifest: Path, root: Path | None, settings: object, out: Path, **more: str
) -> tuple[Path, dict[str, Any]]:
    """Runs a verb; returns its run folder and ``meta.json``."""
    from affetto.cli.outcome import report_finished
    from affetto.corpora.manifest import Manifest
    from affetto.runs import META, RunFolder

    report_finished(RunFolder(out).done)
    run: RunFolder = verb(Manifest.read(manifest, root), settings, out, **more)
    meta = json.loads((run / META).read_text(encoding="utf-8"))
    for key, reason in meta.get("unreadable", {}).items():
        typer.echo(f"unreadable: {key}: {reason}")
    return run.path, meta


@app.command()
def speakers(
    manifest: Table,
    out: Out,
    encoder: Annotated[
        str,
        option(
            f"{', '.join(SPEAKERS)} (with Resemblyzer), a FILE.onnx that takes 80-bin Kaldi "
            "filterbanks, or an x-vector model of transformers: a folder or a hub id."
        ),
    ] = "ge2e",
    name: Annotated[str, option("Name of the column and its array.")] = "speaker_embedding",
    taper: Annotated[
        str, option("Window of an ONNX model's filterbanks: hamming (WeSpeaker) or povey.")
    ] = "hamming",
    device: Device = "cpu",
    root: Root = None,
) -> None:
    """Write one speaker embedding an utterance: an array, and a column that names its rows.

    Exit code 1 says that some recordings could not be read; their cells are empty.
    """
    from affetto.annotation.run_speakers import SpeakerSettings, annotate_speakers
    from affetto.config import build
    from affetto.runs import MANIFEST

    settings = build(SpeakerSettings, {"encoder": encoder, "name": name, "taper": taper})
    run, meta = _run(annotate_speakers, manifest, root, settings, out, device=device)
    typer.echo(
        f"{run / MANIFEST}: {meta['utterances']} utterances, {meta['vectors']} vectors of "
        f"{meta['encoder']}, {len(meta['unreadable'])} unreadable"
    )
    if meta["unreadable"]:
        raise typer.Exit(1)


@app.command()
def clusters(
    manifest: Table,
    out: Out,
    count: Annotated[int, option("Clusters a speaker.")] = 6,
    embedding: Annotated[str, option("Column of the vectors.")] = "speaker_embedding",
    encoder: AnyEncoder = None,
    content: Annotated[
        str | None,
        option(
            "Column of the words, to be taken out: vectors of the encoder ge2e-content, or sentences "
            "that come again.",
            default="content, where there is one",
        ),
    ] = None,
    plain: Annotated[
        bool, option("Take the vectors as they are: nothing centred or taken out.", "--plain")
    ] = False,
    name: Annotated[str, option("Name of the new column.")] = "cluster",
    fewest: Annotated[int, option("Speakers with fewer utterances get no clusters.")] = 12,
    seed: Annotated[int, option("Of the random numbers.")] = 0,
    device: Device = "cpu",
    root: Root = None,
    settings: Words = None,
) -> None:
    """Cluster each speaker's utterances by their embeddings: a column of clusters and their confidence."""
    from affetto.annotation.run_clusters import CLUSTERS, AnnotateClustersSettings, annotate_clusters
    from affetto.config import load
    from affetto.runs import MANIFEST

    shape = {"count": count, "centre": not plain, "fewest": fewest, "seed": seed}
    columns = {"embedding": embedding, "encoder": encoder, "content": content, "name": name}
    chosen = load(AnnotateClustersSettings, {"clusters": shape, **columns}, tuple(settings or ()))
    run, _ = _run(annotate_clusters, manifest, root, chosen, out, device=device)
    facts = json.loads((run / CLUSTERS).read_text(encoding="utf-8"))
    bare = [speaker for speaker, found in facts["speakers"].items() if not found["clusters"]]
    if facts["contents"]:
        typer.echo(f"contents taken out: {facts['contents']}")
    if bare:
        more = f" and {len(bare) - 8} more" if len(bare) > 8 else ""
        typer.echo(f"without clusters: {', '.join(bare[:8])}{more}")
    clustered = len(facts["speakers"]) - len(bare)
    typer.echo(f"{run / MANIFEST}: {clustered} speakers clustered, {len(bare)} without clusters")


@app.command()
def intensity(
    manifest: Table,
    out: Out,
    source: Annotated[
        str,
        option(
            "ranker (learned from emotion labels), recogniser (one minus the probability of neutral), "
            "loudness or voicing."
        ),
    ] = "ranker",
    protocol: Annotated[
        str | None,
        option(
            "Whose labels the ranker may see: training and dev speakers of this protocol.",
            default="crema-d-6-evar for CREMA-D",
        ),
    ] = None,
    model: Annotated[str | None, option("Folder of an earlier run; no label is looked at then.")] = None,
    recogniser: Annotated[str | None, option("Recogniser folder that --source recogniser asks.")] = None,
    name: Annotated[
        str | None,
        option("Name of the column and its array.", default="intensity, loudness or voicing"),
    ] = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Write one curve of intensity an utterance: an array, a column that names its rows, and a page.

    Exit code 1 says that some recordings could not be read; their cells are empty.
    """
    from affetto.config import load
    from affetto.intensity.page import PAGE
    from affetto.intensity.run import annotate_intensity
    from affetto.intensity.sources import IntensitySettings
    from affetto.runs import MANIFEST

    values = {"source": source, "protocol": protocol, "model": model, "recogniser": recogniser, "name": name}
    chosen = load(IntensitySettings, values, tuple(settings or ()))
    run, meta = _run(annotate_intensity, manifest, root, chosen, out)
    for paragraph in meta["words"]:
        typer.echo(f"{paragraph}\n")
    heads, *rows = meta["table"]
    for name, *cells in rows:
        given = ", ".join(f"{head} {cell}" for head, cell in zip(heads[1:], cells, strict=True) if cell)
        typer.echo(f"{name}: {given}")
    typer.echo(
        f"{run / MANIFEST}: {meta['utterances']} utterances, {meta['curves']} curves in {meta['column']}"
    )
    typer.echo(f"page: {run / PAGE}")
    if meta["unreadable"]:
        raise typer.Exit(1)
