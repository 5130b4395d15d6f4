"""What is done to recordings: ``affetto predict``, ``merge``, ``embed``, ``index`` and ``search``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from affetto.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    Channel,
    Device,
    EngineName,
    FileRoot,
    Gpus,
    Share,
    Sources,
    Workers,
    chosen_engine,
    fail_if,
    named_or_small,
    option,
    report_table,
    without_words,
)
from affetto.errors import ConfigError
from affetto.models.registry import ENCODERS, listed

if TYPE_CHECKING:
    from affetto.inference import Recogniser
    from affetto.inference.enrolment import All

_OUTPUT = (
    "Table: .csv .jsonl .parquet; - for CSV on standard output. Or labels: .TextGrid, .eaf (ELAN), .txt "
    "(Audacity), .srt .vtt, .rttm, .json (Label Studio), .audformat (a folder)."
)
_TEXTS = (
    "Texts in place of classes, for a recogniser that knows words: --prompts 'a furious shout' 'a bored "
    "voice'; they end where another option begins."
)
_ENCODERS = (
    "Folder of pretrain, a recogniser (small, base, a folder) or a published model, or "
    f"{listed([*ENCODERS, 'functionals', 'd-vector'])}. Settings follow the sources: encoder.model=ID."
)
_CLASSES = "The only classes that may be answered: --classes anger neutral."
_PRIOR = "How frequent classes are, as shares of 1: --prior anger=0.1 sadness=0.1; the others share the rest."
_SEGMENTS = (
    "A row a segment: .csv with file,start,end and maybe speaker, .rttm, .txt of Audacity, .TextGrid, or a "
    "folder of these."
)


class PredictCommand(TyperCommand):
    """Lets some options be followed by several words: by all that comes before the next option."""

    several = ("--prompts", "--classes", "--prior")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the option before each of its words."""
        spelled, within = [], ""
        for given in args:
            if given in self.several or (given.startswith("-") and given != "-"):
                within = given if given in self.several else ""
                spelled += [] if within else [given]
            else:
                spelled += [within, given] if within else [given]
        return super().parse_args(ctx, spelled)


def predict(
    sources: Sources,
    model: str | None = option(None, MODEL, "--model", "-m", shown=DEFAULT_MODEL),
    output: str = option("-", _OUTPUT, "--output", "-o"),
    window: float | None = option(None, "A row every window of so many seconds: a timeline."),
    hop: float | None = option(None, "Seconds from one window to the next.", shown="half a window"),
    segments: Path | None = option(None, _SEGMENTS),
    split: bool = option(False, "A row every stretch of speech, between pauses.", "--split"),
    channel: Channel = None,
    enrol: list[Path] | None = option(None, "Unlabelled utterances of the speaker: file or folder; repeat."),
    enrol_by_speaker: str | None = option(
        None, "Enrol so many utterances of each speaker that is named, not scored; or all, scored too."
    ),
    prompts: list[str] | None = option(None, _TEXTS),
    classes: list[str] | None = option(None, _CLASSES),
    prior: list[str] | None = option(None, _PRIOR),
    withhold: str | None = option(
        None,
        "Confidence under which the answer is unknown, e.g. 0.4; or the share of dev under it, e.g. 20%.",
    ),
    any_sound: bool = option(False, "Answer where there is no speech, too.", "--any-sound"),
    summary: Path | None = option(
        None, "Table with a row a speaker and recording: seconds by emotion, changes, means."
    ),
    figure: Path | None = option(None, "PNG of the timeline of one recording, with --window."),
    page: Path | None = option(None, "HTML page to hear and read all answers, in one file; .html."),
    root: FileRoot = None,
    shard: Share = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    device: Device = "auto",
) -> None:
    """Predict emotions: one row a recording, a window or a segment.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read, now or by the run that left a finished output; their rows say why.
    """
    from affetto.inference import predict as run_predict

    sources, words = without_words(sources)
    how: dict[str, Any] = {"engine": chosen_engine(engine, workers, gpus), "shard": shard}
    model = named_or_small(model, "-m")
    recogniser = _recogniser(model, words, prompts, device=device, any_sound=any_sound)
    recogniser = recogniser.answering(classes or None, _shares(prior or []), withhold)
    how |= {"window": window, "hop": hop, "segments": segments, "split": split}
    how |= {"root": root, "channel": channel, "enrol": enrol or None}
    how |= {"enrol_by_speaker": _count(enrol_by_speaker)}
    how |= {"summary": summary, "figure": figure, "page": page}
    outcome = run_predict(recogniser, sources, output, **how)
    if outcome.enrolled is not None:
        _say_enrolled(outcome.enrolled, outcome.left_out)
    report_table(outcome, output, "predict", what="segment" if segments or split else "recording")


def _say_enrolled(enrolled: int, left_out: int) -> None:
    others = f"; {left_out} with too few utterances were not" if left_out else ""
    typer.echo(f"{enrolled} speakers were enrolled{others}", err=True)


def _count(text: str | None) -> "int | All | None":
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise ConfigError(f"got --enrol-by-speaker {text}; a number of utterances, or all, is needed")
    return int(text)


def _shares(words: list[str]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for word in words:
        name, _, share = word.rpartition("=")
        try:
            found[name] = float(share)
        except ValueError as error:
            raise ConfigError(f"got --prior {word}; CLASS=SHARE is needed, e.g. anger=0.1") from error
    return found or None


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


def merge(
    parts: list[Path] = typer.Argument(help="What the runs with --shard wrote, one for each shard."),
    output: Path = option(..., "What one run without --shard would write.", "--output", "-o"),
) -> None:
    """Put the outputs of all shards together, as one run without --shard writes them, to the byte.

    Exit code 1 says that some recordings could not be read; their rows say why.
    """
    from affetto.merging import merge_parts

    merged = merge_parts(parts, output)
    counts = f"{merged.rows} rows of {merged.parts} shards, {merged.failed} could not be read"
    typer.echo(f"{output}: {counts}", err=True)
    fail_if(merged.failed)


def embed(
    sources: Sources,
    encoder: str | None = option(None, _ENCODERS, "--encoder", "-e", shown=DEFAULT_MODEL),
    output: Path = option("vectors.npy", ".npy, with a .csv next to it; or .parquet.", "--output", "-o"),
    frames: bool = option(False, "A vector for every frame.", "--frames"),
    layer: str | None = option(
        None, "A number from 0, last, mean, all.", shown="last, or a recogniser's own"
    ),
    channel: Channel = None,
    root: FileRoot = None,
    shard: Share = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    device: Device = "auto",
) -> None:
    """Write the vectors of recordings: one each, or with --frames one a frame.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows say why.
    """
    from affetto.inference.embedding import embed as run_embed
    from affetto.inference.loading import load_representation
    from affetto.models.representation import read_layer

    chosen = None if layer is None else read_layer(layer)
    sources, words = without_words(sources)
    encoder = named_or_small(encoder, "-e")
    representation = load_representation(encoder, chosen, words, device)
    if representation.untrained:
        typer.echo(f"note: {encoder} has no weights of its own: this is an untrained network", err=True)
    how: dict[str, Any] = {"frames": frames, "root": root, "channel": channel, "shard": shard}
    how["engine"] = chosen_engine(engine, workers, gpus)
    outcome = run_embed(representation, sources, output, **how)
    size = f"frames of {representation.frame_dim}" if frames else f"vectors of {representation.dim}"
    report_table(outcome, output, "embed", f"; {size}")


def index(
    sources: Sources,
    model: str = option(..., "Recogniser that was trained with language.", "--model", "-m"),
    out: Path = option("index", "Folder of the index.", "--out", "-o"),
    root: FileRoot = None,
    shard: Share = None,
    device: Device = "auto",
) -> None:
    """Index recordings, so that search finds them by what they sound like.

    The same command again goes on where it was stopped. Exit code 1 says that some recordings could not be
    read; their rows in vectors.csv say why.
    """
    from affetto.language import index as run_index

    outcome = run_index(model, sources, out, root=root, device=device, shard=shard)
    report_table(outcome, out, "index")


def search(
    texts: list[str] = typer.Argument(help="What a voice sounds like: 'a tired, sad woman'."),
    index: Path = option("index", "Folder of the index.", "--index", "-i"),
    count: int = option(10, "How many recordings a text.", "--count", "-k", min=1),
) -> None:
    """Find the recordings that sound most like a text: one line each, score, seconds and file."""
    from affetto.language import Index

    for text, hits in zip(texts, Index(index).search(texts, count), strict=True):
        if len(texts) > 1:
            typer.echo(f"# {text}")
        for hit in hits:
            typer.echo(f"{hit.score:.3f}\t{hit.start:.2f}\t{hit.end:.2f}\t{hit.file}")
