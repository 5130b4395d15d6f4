"""``demo``: the main job on the toy corpus, from scan to prediction, in a few minutes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.evaluation.report import Report
from affetto.evaluation.run import evaluate
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser
from affetto.inference.output import predict
from affetto.runs import atomic_write, write_text

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

_TURNS = 5  # of each speaker in the call


class Demo(NamedTuple):
    """What the demo made: a report and its recogniser, a recording to try, both scores, and a call's page."""

    report: Path
    recogniser: Path
    recording: Path
    page: Path
    scores: tuple[Report, Report]


def demo(out: str | Path) -> Demo:
    """Makes the toy corpus, trains ``cnn`` and ``functionals`` under ``speaker-kfold``, and scores both.

    The report and the recogniser are those of ``functionals``, the better one where clips are so few. What is
    finished in the folder ``out`` is not done again. It also predicts a call of two speakers.
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
    recording, page = manifest.paths[0], _call(folder, manifest, main / "recogniser")
    return Demo(main / "report" / "report.html", main / "recogniser", recording, page, scores)


def _call(folder: Path, manifest: Manifest, made: Path) -> Path:
    """Writes a call, utterances of two speakers in turn, and who speaks when; returns its page, predicted."""
    call, turns = folder / "call.wav", folder / "call.rttm"
    own = [
        np.flatnonzero(manifest.table["speaker"] == name)[:_TURNS]
        for name in (manifest.speakers[0], manifest.speakers[-1])
    ]
    sound, lines = [np.zeros(0, np.float32)], []
    for row in np.stack(own, axis=1).ravel().tolist():
        start, utterance = sum(map(len, sound)) / SAMPLE_RATE, decode(manifest.paths[row])
        seconds, name = len(utterance) / SAMPLE_RATE, manifest.table["speaker"][row]
        lines.append(f"SPEAKER call 1 {start:.3f} {seconds:.3f} <NA> <NA> {name} <NA> <NA>\n")
        sound += [utterance, np.zeros(SAMPLE_RATE // 3, np.float32)]
    with atomic_write(call) as temporary:
        soundfile.write(temporary, np.concatenate(sound), SAMPLE_RATE, format="WAV")
    write_text(turns, "".join(lines))
    page, table = folder / "call.html", folder / "call.csv"
    recogniser = Recogniser.from_pretrained(made)
    predict(recogniser, call, table, segments=turns, enrol_by_speaker="all", page=page)
    return page
