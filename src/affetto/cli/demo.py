"""``affetto demo``."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demo makes.")] = Path("runs/demo"),
) -> None:
    """Run the main job on a synthetic corpus: scan, finetune, evaluate, predict."""
    from affetto.experiment.demo import demo as run_demo
    from affetto.inference import Recogniser

    typer.echo("toy corpus: 12 synthetic speakers, 5 emotions; test speakers are never heard in training")
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
    typer.echo(f"your file:  affetto predict YOUR_FILE.wav -m {made.recogniser}")
