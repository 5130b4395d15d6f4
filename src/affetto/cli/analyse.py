"""``affetto analyse``: says what clusters, and the layers of an encoder, are worth."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.models.registry import listed, probed

app = typer.Typer(help="Say what clusters, or the layers of an encoder, are worth.", no_args_is_help=True)


@app.command()
def clusters(
    manifest: Annotated[Path, typer.Argument(help="Table of utterances, from affetto annotate clusters.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder, with report.html.")],
    name: Annotated[str, typer.Option(help="Column of the clusters.")] = "cluster",
    embedding: Annotated[str, typer.Option(help="Column of the embeddings.")] = "speaker_embedding",
    encoder: Annotated[
        str | None, typer.Option(help="Encoder that must have made the embeddings.", show_default="any")
    ] = None,
    maps: Annotated[
        str, typer.Option("--map", help="How embeddings are laid flat: tsne, pca, none.")
    ] = "tsne",
    bins: Annotated[
        int | None,
        typer.Option(help="Bins for numbers such as duration.", show_default="the number of emotions, or 5"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure duration, loudness and pitch.")
    ] = True,
    root: Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Single settings, such as permutations=1000 folds=10.")
    ] = None,
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
    manifest: Annotated[Path, typer.Argument(help="Table of utterances, from affetto scan.")],
    encoder: Annotated[str, typer.Option(help=f"Folder of pretrain, or {listed(probed())}.")],
    protocol: Annotated[
        str, typer.Option(help="Who is train, dev and test: a name of affetto protocols, or a YAML file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder, with report.html.")],
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many times to train, with seeds 0, 1, ...", show_default="1"),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the recordings, where it has moved.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Single settings, such as train.epochs=10.")
    ] = None,
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
