"""``affetto annotate``: adds columns to a manifest."""

from typing import Any

import typer

from affetto.cli.options import (
    AnyEncoder,
    Device,
    EngineName,
    Gpus,
    Out,
    Root,
    Share,
    Table,
    Words,
    Workers,
    chosen_engine,
    fail_if,
    option,
    run_verb,
)
from affetto.models.registry import SPEAKERS

app = typer.Typer(help="Add what can be known of utterances to a manifest.", no_args_is_help=True)

_SPEAKER_ENCODERS = (
    f"{', '.join(SPEAKERS)} (with Resemblyzer), a FILE.onnx that takes 80-bin Kaldi filterbanks, or an "
    "x-vector model of transformers: a folder or a hub id."
)
_CONTENT = "Column of the words, to be taken out: vectors of the encoder ge2e-content, or repeated sentences."
_SOURCES = "ranker (learned from labels), recogniser (1 - probability of neutral), loudness or voicing."


def _name_unreadable(meta: dict[str, Any]) -> None:
    for key, reason in meta["unreadable"].items():
        typer.echo(f"unreadable: {key}: {reason}")


@app.command()
def speakers(
    manifest: Table,
    out: Out,
    encoder: str = option("ge2e", _SPEAKER_ENCODERS),
    name: str = option("speaker_embedding", "Name of the column and its array."),
    taper: str = option("hamming", "Window of an ONNX model's filterbanks: hamming (WeSpeaker) or povey."),
    device: Device = "auto",
    root: Root = None,
    shard: Share = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
) -> None:
    """Write one speaker embedding an utterance: an array, and a column that names its rows.

    Exit code 1 says that some recordings could not be read; their cells are empty.
    """
    from affetto.annotation.run_speakers import SpeakerSettings, annotate_speakers
    from affetto.config import build
    from affetto.runs import MANIFEST

    settings = build(SpeakerSettings, {"encoder": encoder, "name": name, "taper": taper})
    run, meta = run_verb(
        annotate_speakers,
        manifest,
        root,
        settings,
        out,
        device=device,
        shard=shard,
        engine=chosen_engine(engine, workers, gpus),
    )
    _name_unreadable(meta)
    counts = f"{meta['utterances']} utterances, {meta['vectors']} vectors of {meta['encoder']}"
    typer.echo(f"{run / MANIFEST}: {counts}, {len(meta['unreadable'])} unreadable")
    fail_if(meta["unreadable"])


@app.command()
def clusters(
    manifest: Table,
    out: Out,
    count: int = option(6, "Clusters a speaker."),
    embedding: str = option("speaker_embedding", "Column of the vectors, or several: 'voice + whisper'."),
    encoder: AnyEncoder = None,
    content: str | None = option(None, _CONTENT, shown="content, where there is one"),
    plain: bool = option(False, "Take the vectors as they are: nothing centred or taken out.", "--plain"),
    name: str = option("cluster", "Name of the new column."),
    fewest: int = option(12, "Speakers with fewer utterances get no clusters."),
    seed: int = option(0, "Of the random numbers."),
    device: Device = "auto",
    root: Root = None,
    settings: Words = None,
) -> None:
    """Cluster each speaker's utterances by their embeddings: a column of clusters and their confidence."""
    from affetto.annotation.clusters import CLUSTERS, AnnotateClustersSettings, annotate_clusters
    from affetto.config import load
    from affetto.errors import some
    from affetto.runs import MANIFEST, read_json

    shape = {"count": count, "centre": not plain, "fewest": fewest, "seed": seed}
    columns = {"embedding": embedding, "encoder": encoder, "content": content, "name": name}
    chosen = load(AnnotateClustersSettings, {"clusters": shape, **columns}, tuple(settings or ()))
    run, _ = run_verb(annotate_clusters, manifest, root, chosen, out, device=device)
    facts = read_json(run / CLUSTERS)
    bare = [speaker for speaker, found in facts["speakers"].items() if not found["clusters"]]
    if facts["contents"]:
        typer.echo(f"contents taken out: {facts['contents']}")
    if bare:
        typer.echo(f"without clusters: {some(bare)}")
    clustered = len(facts["speakers"]) - len(bare)
    typer.echo(f"{run / MANIFEST}: {clustered} speakers clustered, {len(bare)} without clusters")


@app.command()
def intensity(
    manifest: Table,
    out: Out,
    source: str = option("ranker", _SOURCES),
    protocol: str | None = option(
        None,
        "Whose labels the ranker may see: training and dev speakers of this protocol.",
        shown="crema-d-6-evar for CREMA-D",
    ),
    model: str | None = option(None, "Folder of an earlier run; no label is looked at then."),
    recogniser: str | None = option(None, "Recogniser that --source recogniser asks."),
    name: str | None = option(None, "Name of column and array.", shown="intensity, loudness or voicing"),
    device: Device = "auto",
    root: Root = None,
    settings: Words = None,
) -> None:
    """Write one curve of intensity an utterance: an array, a column that names its rows, and a page.

    Exit code 1 says that some recordings could not be read; their cells are empty.
    """
    from affetto.config import load
    from affetto.intensity.run import PAGE, annotate_intensity
    from affetto.intensity.sources import IntensitySettings
    from affetto.runs import MANIFEST

    values = {"source": source, "protocol": protocol, "model": model, "recogniser": recogniser, "name": name}
    chosen = load(IntensitySettings, values, tuple(settings or ()))
    run, meta = run_verb(annotate_intensity, manifest, root, chosen, out, device=device)
    _name_unreadable(meta)
    for paragraph in meta["words"]:
        typer.echo(f"{paragraph}\n")
    heads, *rows = meta["table"]
    for row, *cells in rows:
        given = ", ".join(f"{head} {cell}" for head, cell in zip(heads[1:], cells, strict=True) if cell)
        typer.echo(f"{row}: {given}")
    counts = f"{meta['utterances']} utterances, {meta['curves']} curves in {meta['column']}"
    counts += f", {len(meta['unreadable'])} unreadable"
    typer.echo(f"{run / MANIFEST}: {counts}\npage: {run / PAGE}")
    fail_if(meta["unreadable"])
