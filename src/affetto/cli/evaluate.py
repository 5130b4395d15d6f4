"""``affetto evaluate``, ``affetto experiment`` and ``affetto demo``: scores, and the runs they need."""

from pathlib import Path

import typer

from affetto.cli.options import Root, option, trainer


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
    typer.echo(f"page:       {made.page}, a call of two synthetic voices, by the recogniser small")
    typer.echo("your file:  affetto predict YOUR_FILE.wav --window 2 --page YOUR_FILE.html")
