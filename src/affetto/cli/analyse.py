"""``affetto analyse``: compares clusters, or the layers of an encoder, with emotion."""

import json

import typer

from affetto.cli.options import (
    AnyEncoder,
    Device,
    Out,
    Protocol,
    Root,
    Seeds,
    Table,
    Words,
    fail_if,
    option,
    run_verb,
)
from affetto.models.registry import listed, probed

app = typer.Typer(help="Say what clusters, or the layers of an encoder, are worth.", no_args_is_help=True)


@app.command()
def clusters(
    manifest: Table,
    out: Out,
    name: str = option("cluster", "Column of the clusters."),
    embedding: str = option("speaker_embedding", "Column of the embeddings."),
    encoder: AnyEncoder = None,
    maps: str = option("tsne", "How embeddings are laid flat: tsne, pca, none.", "--map"),
    bins: int | None = option(None, "Bins for numbers such as duration.", shown="number of emotions, or 5"),
    measure: bool = option(True, "Measure duration, loudness and pitch."),
    root: Root = None,
    settings: Words = None,
) -> None:
    """Say how far clusters follow emotion, and how far they follow anything else.

    Exit code 1 says that some recordings could not be read, and so not be measured.
    """
    from affetto.analysis.clusters import RESULT, analyse_clusters
    from affetto.analysis.comparison import AnalyseSettings
    from affetto.config import load

    columns = {"name": name, "embedding": embedding, "encoder": encoder}
    values = {**columns, "map": maps, "bins": bins, "measure": measure}
    chosen = load(AnalyseSettings, values, tuple(settings or ()))
    run, _ = run_verb(analyse_clusters, manifest, root, chosen, out)
    found = json.loads((run / RESULT).read_text(encoding="utf-8"))
    for paragraph in found["words"]:
        typer.echo(f"{paragraph}\n")
    typer.echo(f"report: {run / 'report.html'}")
    fail_if(found["unreadable"])


@app.command()
def layers(
    manifest: Table,
    protocol: Protocol,
    out: Out,
    encoder: str = option(..., f"Folder of pretrain or of a published model, or {listed(probed())}."),
    seeds: Seeds = None,
    device: Device = "auto",
    root: Root = None,
    settings: Words = None,
) -> None:
    """Probe each layer of an encoder, and of an untrained encoder of the same shape."""
    from affetto.analysis.layers import RESULT, analyse_layers, layers_settings

    numbers = list(range(seeds)) if seeds else None
    chosen = layers_settings(protocol, encoder, tuple(settings or ()), seeds=numbers)
    run, _ = run_verb(analyse_layers, manifest, root, chosen, out, device=device)
    for row in json.loads((run / RESULT).read_text(encoding="utf-8")):
        typer.echo(f"{row['method'].ljust(24)} UAR {100 * row['uar']:.1f}")
    typer.echo(f"report: {run / 'report.html'}")
