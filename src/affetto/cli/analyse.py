"""``affetto analyse``: says what clusters, and the layers of an encoder, are worth."""

from typing import Annotated

import typer

from affetto.cli.options import AnyEncoder, Out, Protocol, Root, Seeds, Table, Words, option
from affetto.models.registry import listed, probed

app = typer.Typer(help="Say what clusters, or the layers of an encoder, are worth.", no_args_is_help=True)


@app.command()
def clusters(
    manifest: Table,
    out: Out,
    name: Annotated[str, option("Column of the clusters.")] = "cluster",
    embedding: Annotated[str, option("Column of the embeddings.")] = "speaker_embedding",
    encoder: AnyEncoder = None,
    maps: Annotated[str, option("How embeddings are laid flat: tsne, pca, none.", "--map")] = "tsne",
    bins: Annotated[
        int | None, option("Bins for numbers such as duration.", default="the number of emotions, or 5")
    ] = None,
    measure: Annotated[
        bool, option("Measure duration, loudness and pitch.", "--measure/--no-measure")
    ] = True,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Say how far clusters follow emotion, and how far they follow anything else.

    Exit code 1 says that some recordings could not be read, and so not be measured.
    """
    import json

    from affetto.analysis.clusters import RESULT, analyse_clusters
    from affetto.analysis.comparison import AnalyseSettings
    from affetto.cli.outcome import report_finished
    from affetto.config import load
    from affetto.corpora.manifest import Manifest
    from affetto.runs import RunFolder

    columns = {"name": name, "embedding": embedding, "encoder": encoder}
    values = {**columns, "map": maps, "bins": bins, "measure": measure}
    chosen = load(AnalyseSettings, values, tuple(settings or ()))
    report_finished(RunFolder(out).done)
    run = analyse_clusters(Manifest.read(manifest, root), chosen, out)
    found = json.loads((run / RESULT).read_text(encoding="utf-8"))
    for paragraph in found["words"]:
        typer.echo(f"{paragraph}\n")
    typer.echo(f"report: {run / 'report.html'}")
    if found["unreadable"]:
        raise typer.Exit(1)


@app.command()
def layers(
    manifest: Table,
    encoder: Annotated[str, option(f"Folder of pretrain, or {listed(probed())}.")],
    protocol: Protocol,
    out: Out,
    seeds: Seeds = None,
    root: Root = None,
    settings: Words = None,
) -> None:
    """Say what a probe reads from each layer of an encoder, beside an untrained one."""
    import json

    from affetto.analysis.layers import RESULT, analyse_layers, layers_settings
    from affetto.cli.outcome import report_finished
    from affetto.corpora.manifest import Manifest
    from affetto.runs import RunFolder

    chosen = layers_settings(
        protocol, encoder, tuple(settings or ()), seeds=list(range(seeds)) if seeds else None
    )
    report_finished(RunFolder(out).done)
    run = analyse_layers(Manifest.read(manifest, root), chosen, out)
    for row in json.loads((run / RESULT).read_text(encoding="utf-8")):
        typer.echo(f"{row['method'].ljust(24)} UAR {100 * row['uar']:.1f}")
    typer.echo(f"report: {run / 'report.html'}")
