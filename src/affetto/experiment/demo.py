"""``demo``: the main job on the toy corpus, from scan to prediction, in a few minutes."""

from pathlib import Path
from typing import NamedTuple

from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.evaluation.report import Report
from affetto.evaluation.run import evaluate
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings

PROTOCOL = "speaker-kfold"

# A network that 240 training clips can fill, and that two cores train in a minute and a half.
SMALL_CNN = (
    "encoder.width=64",
    "encoder.blocks=2",
    "train.batch_size=8",
    "train.epochs=9",
    "augment.noise_probability=0",
    "augment.speed=null",
    "enrolment=false",
)


class Demo(NamedTuple):
    """What the demo made: a report and its recogniser, a recording to try, and both scores."""

    report: Path
    recogniser: Path
    recording: Path
    scores: tuple[Report, Report]


def demo(out: str | Path) -> Demo:
    """Makes the toy corpus, trains ``cnn`` and ``functionals`` under ``speaker-kfold``, and scores both.

    The report and the recogniser are those of ``functionals``, the better one where clips are so few. What is
    finished in the folder ``out`` is not done again.
    """
    folder = Path(out)
    listed = folder / "toy.csv"
    if not listed.exists():
        scan("toy", folder / "toy").write(listed)
    manifest = Manifest.read(listed)
    plain = finetune_settings(protocol=PROTOCOL, encoder="functionals")
    small = finetune_settings(overrides=SMALL_CNN, protocol=PROTOCOL, encoder="cnn")
    main = finetune(manifest, plain, folder / "functionals")
    other = finetune(manifest, small, folder / "cnn")
    report = evaluate(main.path, other.path)
    report.write(main / "report")
    scores = (evaluate(other.path), report)
    return Demo(main / "report" / "report.html", main / "recogniser", manifest.paths[0], scores)
