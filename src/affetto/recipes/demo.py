"""``demo``: the main job on the toy corpus, from scan to prediction, in a few minutes."""

from pathlib import Path
from typing import NamedTuple

from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.evaluation.report import Report
from affetto.recipes.evaluate import evaluate
from affetto.recipes.finetune import finetune
from affetto.recipes.methods import finetune_settings

PROTOCOL = "speaker-kfold"


class Demo(NamedTuple):
    """What the demo leaves: its manifest, a report, a recogniser, and a recording to try it on."""

    manifest: Path
    report: Path
    recogniser: Path
    recording: Path
    scores: Report
    baseline: Report


def demo(out: str | Path) -> Demo:
    """Makes the toy corpus, trains a baseline and the ``cnn`` under ``speaker-kfold``, and scores both.

    Args:
        out: folder for everything; what is finished there is not done again.
    """
    folder = Path(out)
    listed = folder / "toy.csv"
    if not listed.exists():
        scan("toy", folder / "toy").write(listed)
    manifest = Manifest.read(listed)
    baseline = finetune(
        manifest, finetune_settings(protocol=PROTOCOL, encoder="functionals"), folder / "functionals"
    )
    # Enough epochs to beat the baseline on two cores within the time of a coffee.
    quick = finetune_settings(overrides=("train.epochs=12",), protocol=PROTOCOL, encoder="cnn")
    run = finetune(manifest, quick, folder / "cnn")
    report = evaluate(run.path, baseline.path)
    report.write(run / "report")
    return Demo(
        listed,
        run / "report" / "report.html",
        run / "recogniser",
        manifest.paths[0],
        report,
        evaluate(baseline.path),
    )
