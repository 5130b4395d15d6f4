"""``predict``: a table of predictions, written as they come, in memory that does not grow."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.errors import AffettoError, ConfigError, RunError, unknown
from affetto.inference.enrolment import All, Enrolment, Enrolments
from affetto.inference.pipeline import Plan
from affetto.inference.recogniser import Recogniser
from affetto.inference.rows import least_confidence
from affetto.inference.sources import Piece, Root, Source, Sources, Windows, clips, is_recording
from affetto.inference.writers import (
    Outcome,
    Row,
    Shards,
    read_rows,
    rounded,
    write_lines,
    write_parquet,
)
from affetto.progress import progress
from affetto.runs import atomic_write

STDOUT = "-"
OUTPUTS = (".csv", ".jsonl", ".parquet")


def predict(
    recogniser: Recogniser,
    sources: Sources,
    output: str | Path,
    *,
    root: Root = None,
    window: float | None = None,
    hop: float | None = None,
    enrol: Sources | None = None,
    enrol_by_speaker: int | All | None = None,
    withhold: float | str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Writes the table of :meth:`~affetto.inference.recogniser.Recogniser.files`.

    Until it is complete its rows are in the folder ``OUT.part``, where the same call again continues; a
    process that was killed loses the last few hundred recordings. An output that exists is left alone.

    Args:
        recogniser: the recogniser.
        sources: recordings, folders, manifests.
        output: a ``.csv``, ``.jsonl`` or ``.parquet`` file, or ``"-"`` for CSV on standard output.
        root: the folder that a manifest's file names are relative to.
        window: seconds of a window, for a row each; None for one row a recording.
        hop: seconds from one window to the next; half a window when None.
        enrol: utterances of the one speaker of all sources.
        enrol_by_speaker: how many utterances of each speaker of a manifest to enrol, or ``"all"``.
        withhold: the confidence under which an answer is withheld, or a share of dev, e.g. ``"20%"``.
        workers: threads, or processes where there are many clips; None for one a core.

    Raises:
        AffettoError: when the output cannot be written, is being written, or was begun with other options.
        ConfigError: for another suffix, or options that exclude each other.
    """
    if enrol is not None and enrol_by_speaker is not None:
        raise ConfigError("got both an enrolment and an enrolment by speaker; name one")
    plan = Plan(Windows(window, hop), workers)
    path, least = _path_of(output), least_confidence(withhold, recogniser.format, recogniser.config)
    types = recogniser.format.types(enrol is not None or enrol_by_speaker is not None)
    shards = Shards(path, types) if path else None
    if path and shards and path.exists() and not shards.begun:
        refusal = f"{path} is there, and is no output of predict; name another file with -o, or remove it"
        return shards.finished(path, refusal)
    sources = list(sources) if isinstance(sources, Iterator) else sources  # read several times
    speakers = Counter(clip.speaker for clip in clips(sources, root))
    plan = replace(plan, clips=speakers.total())
    enrolment: Enrolments | None = None if enrol is None else recogniser.enrol(enrol, root=root)
    if enrol_by_speaker is not None:
        enrolment = recogniser.enrol_speakers(sources, enrol_by_speaker, root=root)
    everything = progress(clips(sources, root), "predict", plan.clips)
    if shards is None:
        return _to_stdout(recogniser.rows(everything, plan, enrolment, withhold), list(types))
    used = sorted(enrolment.used) if isinstance(enrolment, Enrolment) else None
    options: Row = {"window": window, "hop": hop, "enrol": used, "enrol_by_speaker": enrol_by_speaker}
    options |= {"recogniser": recogniser.sha256, "withhold": least, "any_sound": recogniser.detector is None}
    with shards.opened(options, lambda: _join(shards)):
        rest, left = shards.rest(everything, attrgetter("key")), plan.clips - shards.resumed
        for piece, row in recogniser.rows(rest, replace(plan, clips=left), enrolment, withhold):
            shards.add(piece.clip.key, row, piece.last)
    return _outcome(shards, set(speakers), enrolment)


def _path_of(output: str | Path) -> Path | None:
    """Returns the file that is asked for; None for standard output."""
    path = None if str(output) == STDOUT else Path(output)
    if path and path.suffix.lower() not in OUTPUTS:
        raise ConfigError(unknown("output format", path.suffix or path.name, [*OUTPUTS, STDOUT]))
    return path


def _outcome(shards: Shards, speakers: set[str | None], enrolment: Enrolments | None) -> Outcome:
    done = Outcome(shards.clips, shards.failed, shards.resumed)
    if not isinstance(enrolment, Mapping):
        return done
    return done._replace(enrolled=len(enrolment), left_out=len(speakers - {None, *enrolment}))


def refuse_figure(recogniser: Recogniser, sources: Sequence[Source], window: float | None) -> None:
    """Refuses a figure of anything but one recording in windows, with classes."""
    if window is None:
        raise ConfigError("a figure shows a recording over time; name --window too, e.g. --window 2")
    if len(sources) != 1 or not is_recording(sources[0]):
        raise ConfigError("a figure shows one recording; name one file, or leave --figure out")
    if recogniser.format.values:
        raise ConfigError("a figure shows probabilities of classes; this recogniser predicts dimensions")


def draw_timeline(
    recogniser: Recogniser,
    source: Source,
    output: str | Path,
    figure: Path,
    *,
    window: float,
    hop: float | None = None,
    enrol: Sources | None = None,
) -> None:
    """Draws the windows of one recording as PNG: those that :func:`predict` wrote, if it wrote a file."""
    from affetto.plots import timeline, to_png

    names = ["start", "end", *recogniser.format.predictions]
    if str(output) == STDOUT:
        enrolment = None if enrol is None else recogniser.enrol(enrol)
        rows = recogniser.files(source, window=window, hop=hop, enrolment=enrolment)
    else:
        rows = read_rows(Path(output), names)
    try:
        cells = [[np.nan if row[name] in (None, "") else row[name] for name in names] for row in rows]
    except KeyError as error:
        raise RunError(
            f"{output} holds no predictions of this recogniser; name another file with -o"
        ) from error
    table = np.array(cells, np.float64)
    table = table[~np.isnan(table[:, -1])]  # without windows that cannot be read
    if len(table):
        title = Path(str(source)).name
        drawn = timeline(table[:, 0], table[:, 1], table[:, 2:], recogniser.labels, title=title)
        with atomic_write(figure) as temporary:
            temporary.write_bytes(to_png(drawn))


def _join(shards: Shards) -> None:
    if shards.output.suffix.lower() == ".parquet":
        write_parquet(shards.output, pyarrow.schema(shards.types), shards.rows(errors="replace"))
    else:
        write_lines(shards.output, list(shards.types), shards.rows())


def _to_stdout(results: Iterable[tuple[Piece, Row]], names: list[str]) -> Outcome:
    count = failed = 0
    # Past the buffers of Python, which would fail a second time, and louder, when the process ends.
    handle: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    try:
        _write(handle, names)
        for piece, row in results:
            _write(handle, [rounded(row[name]) for name in names])
            count += piece.last
            failed += piece.last and row["error"] is not None
    except OSError as error:
        raise AffettoError(f"cannot write to standard output: {error.strerror or error}") from error
    return Outcome(count, failed)


def _write(handle: Any, cells: list[Any]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    left = memoryview(line.getvalue().encode("utf-8", "surrogateescape"))
    while left:
        left = left[handle.write(left) :]
