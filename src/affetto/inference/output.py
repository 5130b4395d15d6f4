"""``predict``: the table of all that was asked for, written as it comes, in memory that does not grow."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from affetto.errors import AffettoError, ConfigError, RunError, unknown
from affetto.inference.enrolment import Enrolment, Enrolments
from affetto.inference.recogniser import Recogniser, checked_hop
from affetto.inference.rows import Predicted
from affetto.inference.sources import Source, clips
from affetto.inference.unfinished import UnfinishedTable, csv_line, encoded
from affetto.progress import progress

STDOUT = "-"
OUTPUTS = (".csv", ".jsonl", ".parquet")


class Outcome(NamedTuple):
    """What :func:`predict` did.

    Attributes:
        clips: how many recordings, or parts named by a manifest, are in the output.
        failed: how many of them could not be read.
        resumed: how many an earlier run had left there.
        finished: whether the output was complete before, so that nothing was done.
        enrolled: how many speakers were enrolled by name; None where that was not asked for.
    """

    clips: int
    failed: int
    resumed: int = 0
    finished: bool = False
    enrolled: int | None = None


def predict(
    recogniser: Recogniser,
    sources: Source | Iterable[Source],
    output: str | Path,
    *,
    root: str | Path | None = None,
    window: float | None = None,
    hop: float | None = None,
    enrol: Source | Iterable[Source] | None = None,
    enrol_by_speaker: int | None = None,
    workers: int | None = None,
) -> Outcome:
    """Writes the table of :meth:`~affetto.inference.recogniser.Recogniser.files`, rows as they come.

    Until all are there they lie in ``OUT.part``, and ``OUT.part.log`` records every few hundred clips which
    of them are in. The same call again goes on from that record: what is in is not predicted again, and a
    process that was killed loses what it had in hand, some hundred clips a core. At the end the part becomes
    the output. Where the output exists already, nothing is done.

    Args:
        recogniser: predicts.
        sources: recordings, folders, manifests.
        output: a ``.csv``, ``.jsonl`` or ``.parquet`` file, or ``"-"`` for CSV on standard output.
        root: the folder that a manifest's file names are relative to.
        window: seconds of a window, for a row each; None for one row a recording.
        hop: seconds from one window to the next; half a window when None.
        enrol: utterances of the one speaker who speaks in all sources.
        enrol_by_speaker: how many utterances of each speaker of a manifest to enrol.
        workers: threads, or processes where there are many clips; None for one a core.

    Raises:
        RunError: when the output was begun with another recogniser or other options, or is being written.
        AffettoError: when it cannot be written, e.g. on a full disk; what was written is kept.
        ConfigError: for another suffix, or options that exclude each other.
    """
    if enrol is not None and enrol_by_speaker is not None:
        raise ConfigError("got both an enrolment and an enrolment by speaker; name one")
    checked_hop(window, hop)  # a refused call leaves no part behind
    path = None if str(output) == STDOUT else Path(output)
    if path and path.suffix.lower() not in OUTPUTS:
        raise ConfigError(unknown("output format", path.suffix or path.name, [*OUTPUTS, STDOUT]))
    names = recogniser.columns(enrol is not None or enrol_by_speaker is not None)
    table = UnfinishedTable(path, names) if path else None
    if table and table.path.exists() and not table.part.exists():
        table.log.unlink(missing_ok=True)  # stopped between the last two steps
        return finished(table.path)
    sources = list(sources) if isinstance(sources, Iterator) else sources  # gone through more than once
    total = sum(1 for _ in clips(sources, root))
    enrolment: Enrolments | None = None
    if enrol is not None:
        enrolment = recogniser.enrol(enrol, root=root)
    elif enrol_by_speaker is not None:
        enrolment = recogniser.enrol_speakers(sources, enrol_by_speaker, root=root)
    everything = progress(clips(sources, root), "predict", total)
    if table is None:
        return _to_stdout(recogniser.predicted(everything, window, hop, enrolment, workers, total), names)
    options = {
        "recogniser": recogniser.sha256,
        "window": window,
        "hop": hop,
        "enrol_by_speaker": enrol_by_speaker,
    }
    used = sorted(map(list, enrolment.used)) if isinstance(enrolment, Enrolment) else None
    with table.opened({**options, "enrol": used}):
        left = total - table.resumed
        for predicted in recogniser.predicted(table.rest(everything), window, hop, enrolment, workers, left):
            table.add(predicted)
    table.finish()
    enrolled = len(enrolment) if isinstance(enrolment, Mapping) else None
    return Outcome(table.clips, table.failed, table.resumed, enrolled=enrolled)


def _to_stdout(results: Iterable[Predicted], names: list[str]) -> Outcome:
    count = failed = 0
    # Past the buffers of Python, which would fail a second time, and louder, when the process ends.
    handle: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    try:
        _write(handle, csv_line(dict(zip(names, names, strict=True)), names))
        for predicted in results:
            _write(handle, "".join(csv_line(row, names) for row in predicted.rows))
            count += predicted.last
            failed += predicted.rows[-1]["error"] is not None
    except OSError as error:
        raise AffettoError(f"cannot write to standard output: {error.strerror or error}") from error
    return Outcome(count, failed)


def _write(handle: Any, text: str) -> None:
    left = memoryview(encoded(text))
    while left:
        left = left[handle.write(left) :]


def finished(path: Path) -> Outcome:
    """Counts what an output holds; in a timeline every window.

    Raises:
        RunError: for a file that ``predict`` did not write.
    """
    try:
        return _counted(path)
    except (KeyError, ValueError) as error:  # no such column; no such table at all
        raise RunError(
            f"{path} is there, and is no output of predict; name another file with -o, or remove it"
        ) from error


def _counted(path: Path) -> Outcome:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet  # type: ignore[import-untyped]

        errors = pyarrow.parquet.read_table(path, columns=["error"])["error"]
        return Outcome(len(errors), len(errors) - errors.null_count, len(errors), True)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines) if path.suffix.lower() == ".csv" else map(json.loads, lines)
        bad = [bool(row["error"]) for row in rows]
    return Outcome(len(bad), sum(bad), len(bad), True)
