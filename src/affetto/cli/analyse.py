"""``affetto evaluate``, ``experiment``, ``demo``, ``analyse``: what runs, clusters, layers are worth."""

from pathlib import Path

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
    trainer,
)
from affetto.models.registry import listed, probed


def evaluate(
    run: Path = typer.Argument(help="Run folder of affetto finetune."),
    against: Path | None = option(None, "Another run folder, for a paired test."),
    enrolment: str = option("0", "Score with so many enrolment utterances a speaker: 0, 5, 10, 20, all."),
    mix: str = option("random", "Which were enrolled: random, or (with --enrolment 10) 'anger only'."),
    output: Path | None = option(None, "Folder for the report; RUN/report by default.", "--output", "-o"),
) -> None:
    """Score a run's test part: UAR, WAR, macro-F1 with intervals, and published figures."""
    from affetto.evaluation.run import evaluate as run_evaluate

    report = run_evaluate(run, against, enrolment=enrolment, mix=mix)
    folder = output or run / "report"
    report.write(folder)
    typer.echo(report.markdown())
    typer.echo(f"\nreport: {folder / 'report.html'}")


def experiment(
    file: Path = typer.Argument(help="Experiment file, such as experiments/crema-d-6-evar.yaml."),
    manifest: Path = option(..., "Table of utterances, from affetto scan."),
    output: Path | None = option(None, "Folder of the tables; that of FILE by default.", "--output", "-o"),
    runs: Path = option("runs", "Folder of the run folders."),
    root: Root = None,
) -> None:
    """Run what is missing of an experiment, row by row, and draw its table of results."""
    from affetto.corpora.manifest import Manifest
    from affetto.experiment.run import experiment as run_experiment

    typer.echo(run_experiment(file, Manifest.read(manifest, root), output or file.parent, runs, trainer))


def demo(out: Path = typer.Argument("runs/demo", help="Folder for everything the demo makes.")) -> None:
    """Run the main job on a synthetic corpus: scan, finetune, evaluate, predict."""
    from affetto.experiment.demo import demo as run_demo
    from affetto.inference import Recogniser

    typer.echo("toy corpus: 12 synthetic speakers, 5 emotions; no test speaker is in training")
    made = run_demo(out)
    for report in made.scores:
        score = report.scores["uar"]
        interval = f"[{100 * (score.low or 0):.1f}, {100 * (score.high or 0):.1f}]"
        chance = f"chance {100 / len(report.labels):.0f} %"
        typer.echo(f"{report.method:12s} UAR {100 * score.value:.1f} % {interval}  ({chance})")
    best = Recogniser.from_pretrained(made.recogniser).predict(made.recording)[0]
    typer.echo(f"{made.recording.name} sounds like {best['label']} ({100 * best['score']:.0f} %)")
    typer.echo(f"report:     {made.report}")
    typer.echo(f"recogniser: {made.recogniser}")
    typer.echo(f"page:       {made.page}, a call of two synthetic voices, by this recogniser")
    typer.echo("your file:  affetto predict YOUR_FILE.wav --window 2 --page YOUR_FILE.html")


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
    from affetto.runs import read_json

    columns = {"name": name, "embedding": embedding, "encoder": encoder}
    values = {**columns, "map": maps, "bins": bins, "measure": measure}
    chosen = load(AnalyseSettings, values, tuple(settings or ()))
    run, _ = run_verb(analyse_clusters, manifest, root, chosen, out)
    found = read_json(run / RESULT)
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
    from affetto.runs import read_json

    numbers = list(range(seeds)) if seeds else None
    chosen = layers_settings(protocol, encoder, tuple(settings or ()), seeds=numbers)
    run, _ = run_verb(analyse_layers, manifest, root, chosen, out, device=device)
    for row in read_json(run / RESULT):
        typer.echo(f"{row['method'].ljust(24)} UAR {100 * row['uar']:.1f}")
    typer.echo(f"report: {run / 'report.html'}")
