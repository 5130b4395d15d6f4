"""``affetto predict``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from affetto.cli.options import Device, FileRoot, Sources, option
from affetto.cli.outcome import report_table

if TYPE_CHECKING:
    from affetto.inference import Recogniser

_PROMPTS = "--prompts"


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
    model: Annotated[
        str, typer.Option("--model", "-m", help="Recogniser folder, or its id on the Hugging Face hub.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help=".csv, .jsonl or .parquet; - for CSV on standard output.")
    ] = "-",
    window: Annotated[float | None, option("A row every window of so many seconds: a timeline.")] = None,
    hop: Annotated[
        float | None, option("Seconds from one window to the next.", default="half a window")
    ] = None,
    enrol: Annotated[
        list[Path] | None, option("Unlabelled utterances of the one speaker: file or folder; repeat.")
    ] = None,
    enrol_by_speaker: Annotated[
        int | None,
        typer.Option(min=1, help="Enrol so many utterances of each speaker of a manifest; not scored."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        option(
            "Texts in place of classes, for a recogniser that knows words: --prompts 'a furious shout' "
            "'a bored voice'; they end where another option begins."
        ),
    ] = None,
    figure: Annotated[Path | None, option("PNG of the timeline of one recording, with --window.")] = None,
    root: FileRoot = None,
    device: Device = "cpu",
) -> None:
    """Predict emotions: one row a recording, or one a window.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read, now or by the run that left a finished output; their rows say why.
    """
    from affetto.inference import predict as run_predict
    from affetto.inference.output import draw_timeline, refuse_figure

    recogniser = _recogniser(model, prompts, device)
    if figure:
        refuse_figure(recogniser, sources, window)
    options: dict[str, Any] = {"window": window, "hop": hop, "enrol": enrol or None}
    outcome = run_predict(
        recogniser, sources, output, root=root, enrol_by_speaker=enrol_by_speaker, **options
    )
    if outcome.enrolled is not None:
        typer.echo(
            f"{outcome.enrolled} speakers were enrolled; those with too few utterances were not", err=True
        )
    if figure:
        draw_timeline(recogniser, sources[0], output, figure, **options)
    report_table(outcome, output, "predict")


def _recogniser(model: str, prompts: list[str] | None, device: str) -> "Recogniser":
    if prompts:
        from affetto.language import with_prompts

        recogniser = with_prompts(model, prompts, device=device)
    else:
        from affetto.inference import Recogniser

        recogniser = Recogniser.from_pretrained(model, device=device)
    if recogniser.speaker_dependent:
        typer.echo(
            "note: speaker-dependent: this recogniser was measured on speakers it was trained on", err=True
        )
    return recogniser
