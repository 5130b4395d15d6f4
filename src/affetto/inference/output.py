"""``predict``: a table of predictions, written as they come, in memory that does not grow."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from affetto.errors import AffettoError, AudioError, ConfigError, RunError, unknown
from affetto.inference.enrolment import All, Enrolment, Enrolments
from affetto.inference.label_files import (
    SUFFIXES,
    TABLES,
    refuse_labels,
    refuse_summary,
    write_labels,
    write_summary,
)
from affetto.inference.page import write_page
from affetto.inference.pipeline import Engine, Plan
from affetto.inference.recogniser import Recogniser
from affetto.inference.rows import RowFormat
from affetto.inference.segments import Cut, Segments
from affetto.inference.sources import Clip, Piece, Root, Sources, Windows, clips, is_recording
from affetto.inference.writers import (
    Outcome,
    Shards,
    rounded,
    typed,
)
from affetto.progress import progress
from affetto.runs import atomic_write
from affetto.shards import Shard
from affetto.tables import Row, read_rows, write_lines, write_parquet

STDOUT = "-"


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
    segments: Segments | None = None,
    split: bool = False,
    channel: int | None = None,
    summary: str | Path | None = None,
    figure: str | Path | None = None,
    page: str | Path | None = None,
    workers: int | None = None,
    shard: str | None = None,
    engine: Engine | None = None,
) -> Outcome:
    """Writes the table of :meth:`~affetto.inference.recogniser.Recogniser.files`, or its labels.

    Until it is complete its rows are in the folder ``OUT.part``, where the same call again continues. A table
    that exists is left alone; labels that exist are refused: they do not say whether they are complete.

    Args:
        recogniser: the recogniser.
        sources: recordings, folders, manifests.
        output: a ``.csv``, ``.jsonl`` or ``.parquet`` file; labels, as ``.rttm``; ``"-"``, standard output.
        root: the folder that a manifest's file names are relative to.
        window: seconds of a window, for a row each; None for one row a recording.
        hop: seconds from one window to the next; half a window when None.
        segments: see :meth:`~affetto.inference.recogniser.Recogniser.files`.
        split: whether to find segments by voice activity.
        channel: the only channel to read, counted from 1; None for all, mixed.
        enrol: utterances of the one speaker of all sources.
        enrol_by_speaker: how many utterances of each speaker to enrol, or ``"all"``.
        summary: a table with a row a speaker and recording; see :mod:`affetto.inference.label_files`.
        figure: PNG of the windows of one recording.
        page: HTML of everything, sound included.
        workers: threads, or processes where there are many clips; None for one a core.
        engine: what computes in place of this machine: :class:`~affetto.inference.engine.OnRay`.
        shard: ``"3/8"`` for the third of eight shares, for :func:`~affetto.merging.merge_parts`.

    Raises:
        AffettoError: when the output cannot be written, is being written, or was begun with other options.
        ConfigError: for another suffix, or options that exclude each other.
    """
    views = _Views(*(None if each is None else Path(each) for each in (summary, figure, page)))
    plan, path = Plan(Windows(window, hop), workers, engine=engine), _path_of(output)
    share = _share(shard, path, any(views))
    cut = Cut(sources, root, segments, split, channel, share, enrol_by_speaker is not None)
    views.refuse(recogniser, cut.sources, window)
    types = recogniser.format.types(enrol is not None or enrol_by_speaker is not None, cut.in_segments)
    shards = Shards(path, types, shard=share) if path else None
    kept: list[Row] | None = [] if any(views) else None
    done = _predicted(recogniser, cut, plan, (enrol, enrol_by_speaker), shards, kept)
    views.write(kept or [], recogniser.format, clips(cut.sources, root, channel))
    return done


def _predicted(
    recogniser: Recogniser,
    cut: Cut,
    plan: Plan,
    speakers: tuple[Sources | None, int | All | None],
    shards: Shards | None,
    kept: list[Row] | None,
) -> Outcome:
    """Predicts what is not in the shards yet, or writes to standard output; puts all rows into ``kept``."""
    if shards and shards.output.exists() and not shards.begun:
        is_table = shards.output.suffix.lower() in TABLES
        if is_table or not shards.part.exists():  # else killed in its last moment, which is made up for
            return _finished(shards, kept)
    if None not in speakers:
        raise ConfigError("got both an enrolment and an enrolment by speaker; name one")
    if shards:
        refuse_labels(shards.output.suffix, (clip.file for clip in cut), recogniser.format.values)
    named = Counter(clip.speaker for clip in cut)
    plan = replace(plan, clips=named.total())
    enrol, by_speaker = speakers
    enrolment: Enrolments | None = None if enrol is None else recogniser.enrol(enrol, root=cut.root)
    if by_speaker is not None:
        empty = cut.has_speakers and not set(named) - {None}  # a shard without speakers
        enrolment = {} if empty else recogniser.enrol_cut(cut, by_speaker)
    everything = progress(cut, "predict", plan.clips)
    rows_of = partial(recogniser.rows, enrolment=enrolment, speakers=cut.in_segments)
    if shards is None:
        names = recogniser.columns(enrolment is not None, cut.in_segments)
        done = _to_stdout(rows_of(everything, plan), names, kept)
        return _with_speakers(done, named, enrolment)
    used = sorted(enrolment.used) if isinstance(enrolment, Enrolment) else None
    options: Row = {"window": plan.windows.length, "hop": plan.windows.hop, "enrol": used}
    options |= {"enrol_by_speaker": by_speaker, "recogniser": recogniser.sha256}
    options |= {"answering": list(recogniser.terms), "any_sound": recogniser.detector is None}
    options |= {"segments": cut.sha256, "split": cut.split, "channel": cut.channel}
    options |= {"verb": "predict", "listed": cut.listed} if cut.shard else {}
    with shards.opened(options, lambda: _join(shards, recogniser.labels, kept)):
        rest, left = shards.rest(everything, attrgetter("key")), plan.clips - shards.resumed
        for piece, row in rows_of(rest, replace(plan, clips=left)):
            shards.add(piece.clip.key, row | {"place": piece.clip.place}, piece.last)
    done = Outcome(shards.clips, shards.failed, shards.resumed, warned=shards.warned)
    return _with_speakers(done, named, enrolment)


def _with_speakers(done: Outcome, named: Iterable[str | None], enrolment: Enrolments | None) -> Outcome:
    if not isinstance(enrolment, Mapping):
        return done
    return done._replace(enrolled=len(enrolment), left_out=len({*named} - {None, *enrolment}))


def _share(text: str | None, path: Path | None, viewed: bool) -> Shard | None:
    """Returns the shard that is asked for; refuses what is made of all rows."""
    if text is not None and (viewed or path is None or path.suffix.lower() not in TABLES):
        raise ConfigError(
            f"a shard writes a table of its rows: {', '.join(TABLES)}; leave labels, page, summary and "
            "figure out, merge the parts, and run the command without --shard with the merged table as output"
        )
    return Shard.read(text)


def _path_of(output: str | Path) -> Path | None:
    """Returns the file that is asked for; None for standard output."""
    path = None if str(output) == STDOUT else Path(output)
    if path and path.suffix.lower() not in (*TABLES, *SUFFIXES):
        raise ConfigError(unknown("output format", path.suffix or path.name, [*TABLES, *SUFFIXES, STDOUT]))
    return path


class _Views(NamedTuple):
    """What is made of all rows, besides their table."""

    summary: Path | None
    figure: Path | None
    page: Path | None

    def refuse(self, recogniser: Recogniser, sources: Sources, window: float | None) -> None:
        """Refuses a summary that is no table, a figure of more than one recording, and dimensions."""
        if self.summary:
            refuse_summary(self.summary)
        for path, name in ((self.figure, "figure"), (self.page, "page")):
            if path and recogniser.format.values:
                raise ConfigError(
                    f"a {name} shows probabilities of classes; this recogniser predicts dimensions"
                )
        if self.figure and window is None:
            raise ConfigError("a figure shows a recording over time; name --window too, e.g. --window 2")
        one = sources[0] if isinstance(sources, list) and len(sources) == 1 else sources
        if self.figure and not is_recording(one):
            raise ConfigError("a figure shows one recording; name one file, or leave --figure out")

    def write(self, rows: list[Row], form: RowFormat, sounds: Iterable[Clip]) -> None:
        """Writes what was asked for."""
        if self.summary:
            write_summary(self.summary, rows, form)
        if self.figure:
            draw_timeline(rows, form, self.figure)
        if self.page:
            write_page(self.page, rows, form.labels, {clip.file: clip for clip in sounds})


def draw_timeline(rows: list[Row], form: RowFormat, figure: Path) -> None:
    """Draws the windows of one recording as PNG."""
    from affetto.plots import timeline, to_png

    names = ["start", "end", *form.predictions]
    table = np.array([[row[name] for name in names] for row in rows], np.float64)
    table = table[~np.isnan(table[:, -1])]  # without windows that cannot be read
    if len(table):
        title = Path(rows[0]["file"]).name
        drawn = timeline(table[:, 0], table[:, 1], table[:, 2:], form.labels, title=title)
        with atomic_write(figure) as temporary:
            temporary.write_bytes(to_png(drawn))


def _finished(shards: Shards, kept: list[Row] | None) -> Outcome:
    """Counts the rows of a table that is complete, and puts them into ``kept``; refuses anything else."""
    path = shards.output
    if path.suffix.lower() not in TABLES:
        raise RunError(f"{path} is there already; remove it to predict anew, or name another file with -o")
    refusal = f"{path} is there, and is no output of predict; name another file with -o, or remove it"
    done = shards.finished(path, refusal)
    if kept is not None:
        try:
            kept += [typed(row, shards.types) for row in read_rows(path, list(shards.types))]
        except (KeyError, ValueError) as error:
            raise RunError(
                f"{path} holds no predictions of this recogniser; name another file with -o"
            ) from error
    return done


def _join(shards: Shards, labels: list[str], kept: list[Row] | None) -> None:
    suffix, names = shards.output.suffix.lower(), list(shards.types)
    rows = [] if kept is None else kept
    if kept is not None or suffix in SUFFIXES:
        rows += chain.from_iterable(shards.rows(*names, errors="replace"))
    if suffix in SUFFIXES:
        try:
            write_labels(shards.output, rows, labels)
        except AudioError:  # nothing was read that a further run could start from
            shards.remove()
            raise
    elif suffix == ".parquet":
        write_parquet(
            shards.output, pyarrow.schema(shards.types), chain.from_iterable(shards.rows(errors="replace"))
        )
    else:
        write_lines(shards.output, names, chain.from_iterable(shards.rows()))


def _to_stdout(results: Iterable[tuple[Piece, Row]], names: list[str], kept: list[Row] | None) -> Outcome:
    count = failed = warned = 0
    # Past the buffers of Python, which would fail a second time, and louder, when the process ends.
    handle: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    try:
        _write(handle, names)
        for piece, row in results:
            _write(handle, [rounded(row[name]) for name in names])
            if kept is not None:
                kept.append({name: rounded(row[name]) for name in names})
            count += piece.last
            failed += piece.last and row["error"] is not None
            warned += piece.last and row["warning"] is not None
    except BrokenPipeError:  # the reader has enough, and the command line ends quietly
        raise
    except OSError as error:
        raise AffettoError(f"cannot write to standard output: {error.strerror or error}") from error
    return Outcome(count, failed, warned=warned)


def _write(handle: Any, cells: list[Any]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    left = memoryview(line.getvalue().encode("utf-8", "surrogateescape"))
    while left:
        left = left[handle.write(left) :]
