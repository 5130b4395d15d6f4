"""``affetto predict``: emotions of recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from affetto.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    Device,
    FileRoot,
    Sources,
    named_or_small,
    option,
    without_words,
)
from affetto.cli.outcome import report_table
from affetto.errors import ConfigError

if TYPE_CHECKING:
    from affetto.inference import Recogniser
    from affetto.inference.enrolment import All

_PROMPTS = "--prompts"
_OUTPUT = (
    "Table: .csv .jsonl .parquet; - for CSV on standard output. Or labels: .TextGrid, .eaf (ELAN), .txt "
    "(Audacity), .srt .vtt, .rttm, .json (Label Studio), .audformat (a folder)."
)
_TEXTS = (
    "Texts in place of classes, for a recogniser that knows words: --prompts 'a furious shout' 'a bored "
    "voice'; they end where another option begins."
)


class PredictCommand(TyperCommand):
    """Lets ``--prompts`` be followed by several texts: by all that comes before the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the option before each of its texts."""
        spelled, within = [], False
        for given in args:
            if given == _PROMPTS or (given.startswith("-") and given != "-"):
                within = given == _PROMPTS
                spelled += [] if within else [given]
            else:
                spelled += [_PROMPTS, given] if within else [given]
        return super().parse_args(ctx, spelled)


def predict(
    sources: Sources,
    model: str | None = option(None, MODEL, "--model", "-m", shown=DEFAULT_MODEL),
    output: str = option("-", _OUTPUT, "--output", "-o"),
    window: float | None = option(None, "A row every window of so many seconds: a timeline."),
    hop: float | None = option(None, "Seconds from one window to the next.", shown="half a window"),
    enrol: list[Path] | None = option(None, "Unlabelled utterances of the speaker: file or folder; repeat."),
    enrol_by_speaker: str | None = option(
        None, "Enrol so many utterances of each speaker of a manifest, not scored; or all, scored too."
    ),
    prompts: list[str] | None = option(None, _TEXTS),
    withhold: str | None = option(
        None,
        "Confidence under which the answer is unknown, e.g. 0.4; or the share of dev under it, e.g. 20%.",
    ),
    any_sound: bool = option(False, "Answer where there is no speech, too.", "--any-sound"),
    figure: Path | None = option(None, "PNG of the timeline of one recording, with --window."),
    root: FileRoot = None,
    device: Device = "auto",
) -> None:
    """Predict emotions: one row a recording, or one a window.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read, now or by the run that left a finished output; their rows say why.
    """
    from affetto.inference import predict as run_predict

    sources, words = without_words(sources)
    model = named_or_small(model, "-m")
    recogniser = _recogniser(model, words, prompts, device=device, any_sound=any_sound)
    outcome = run_predict(
        recogniser,
        sources,
        output,
        root=root,
        enrol_by_speaker=_count(enrol_by_speaker),
        withhold=withhold,
        window=window,
        hop=hop,
        enrol=enrol or None,
        figure=figure,
    )
    if outcome.enrolled is not None:
        others = f"; {outcome.left_out} with too few utterances were not" if outcome.left_out else ""
        typer.echo(f"{outcome.enrolled} speakers were enrolled{others}", err=True)
    report_table(outcome, output, "predict")


def _count(text: str | None) -> "int | All | None":
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise ConfigError(f"got --enrol-by-speaker {text}; a number of utterances, or all, is needed")
    return int(text)


def _recogniser(model: str, words: list[str], prompts: list[str] | None, **how: Any) -> "Recogniser":
    from affetto.inference.loading import model_word

    if prompts:
        from affetto.language import with_prompts

        recogniser = with_prompts(model, prompts, encoder=model_word(words), **how)
    else:
        from affetto.inference import Recogniser

        recogniser = Recogniser.from_pretrained(model, encoder=model_word(words), **how)
    if recogniser.speaker_dependent:
        note = "note: speaker-dependent: this recogniser was measured on speakers it was trained on"
        typer.echo(note, err=True)
    return recogniser
