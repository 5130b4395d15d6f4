"""``affetto embed``, ``affetto index`` and ``affetto search``: vectors of recordings, and search by text."""

from pathlib import Path
from typing import Any

import typer

from affetto.cli.options import (
    DEFAULT_MODEL,
    Channel,
    Device,
    EngineName,
    FileRoot,
    Gpus,
    Share,
    Sources,
    Workers,
    chosen_engine,
    named_or_small,
    option,
    report_table,
    without_words,
)
from affetto.models.registry import ENCODERS, listed

_ENCODERS = (
    "Folder of pretrain, a recogniser (small, base, a folder) or a published model, or "
    f"{listed([*ENCODERS, 'functionals', 'd-vector'])}. Settings follow the sources: encoder.model=ID."
)


def embed(
    sources: Sources,
    encoder: str | None = option(None, _ENCODERS, "--encoder", "-e", shown=DEFAULT_MODEL),
    output: Path = option("vectors.npy", ".npy, with a .csv next to it; or .parquet.", "--output", "-o"),
    frames: bool = option(False, "A vector for every frame.", "--frames"),
    layer: str | None = option(
        None, "A number from 0, last, mean, all.", shown="last, or a recogniser's own"
    ),
    channel: Channel = None,
    root: FileRoot = None,
    shard: Share = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    device: Device = "auto",
) -> None:
    """Write the vectors of recordings: one each, or with --frames one a frame.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows say why.
    """
    from affetto.inference.embedding import embed as run_embed
    from affetto.inference.loading import load_representation
    from affetto.models.representation import read_layer

    chosen = None if layer is None else read_layer(layer)
    sources, words = without_words(sources)
    encoder = named_or_small(encoder, "-e")
    representation = load_representation(encoder, chosen, words, device)
    if representation.untrained:
        typer.echo(f"note: {encoder} has no weights of its own: this is an untrained network", err=True)
    how: dict[str, Any] = {"frames": frames, "root": root, "channel": channel, "shard": shard}
    how["engine"] = chosen_engine(engine, workers, gpus)
    outcome = run_embed(representation, sources, output, **how)
    size = f"frames of {representation.frame_dim}" if frames else f"vectors of {representation.dim}"
    report_table(outcome, output, "embed", f"; {size}")


def index(
    sources: Sources,
    model: str = option(..., "Recogniser that was trained with language.", "--model", "-m"),
    out: Path = option("index", "Folder of the index.", "--out", "-o"),
    root: FileRoot = None,
    shard: Share = None,
    device: Device = "auto",
) -> None:
    """Index recordings, so that search finds them by what they sound like.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows in vectors.csv say why.
    """
    from affetto.language import index as run_index

    outcome = run_index(model, sources, out, root=root, device=device, shard=shard)
    report_table(outcome, out, "index")


def search(
    texts: list[str] = typer.Argument(help="What a voice sounds like: 'a tired, sad woman'."),
    index: Path = option("index", "Folder of the index.", "--index", "-i"),
    count: int = option(10, "How many recordings a text.", "--count", "-k", min=1),
) -> None:
    """Find the recordings that sound most like a text: one line each, score, seconds and file."""
    from affetto.language import Index

    for text, hits in zip(texts, Index(index).search(texts, count), strict=True):
        if len(texts) > 1:
            typer.echo(f"# {text}")
        for hit in hits:
            typer.echo(f"{hit.score:.3f}\t{hit.start:.2f}\t{hit.end:.2f}\t{hit.file}")
