"""``affetto evaluate`` and ``affetto experiment``."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.cli.options import Root


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of affetto finetune.")],
    against: Annotated[Path | None, typer.Option(help="Another run folder, for a paired test.")] = None,
    enrolment: Annotated[
        str, typer.Option(help="Score with so many enrolment utterances a speaker: 0, 5, 10, 20, all.")
    ] = "0",
    mix: Annotated[
        str, typer.Option(help="Which were enrolled: random, or (with --enrolment 10) 'anger only'.")
    ] = "random",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the report; RUN/report by default.")
    ] = None,
) -> None:
    """Score a run's test part: UAR, WAR, macro-F1 with intervals, and the published figures beside them."""
    from affetto.evaluation.run import evaluate as run_evaluate

    report = run_evaluate(run, against, enrolment=enrolment, mix=mix)
    folder = output or run / "report"
    report.write(folder)
    typer.echo(report.markdown())
    typer.echo(f"\nreport: {folder / 'report.html'}")


def experiment(
    file: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/crema-d-6-evar.yaml.")],
    manifest: Annotated[Path, typer.Option(help="Table of utterances, from affetto scan.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the tables; that of FILE by default.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    root: Root = None,
) -> None:
    """Run what is missing of an experiment, row by row, and draw its table of results."""
    from affetto.cli.options import trainer
    from affetto.corpora.manifest import Manifest
    from affetto.experiment.run import experiment as run_experiment

    typer.echo(run_experiment(file, Manifest.read(manifest, root), output or file.parent, runs, trainer))
