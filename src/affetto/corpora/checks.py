"""What a manifest holds, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from affetto.audio import decode, read_info, to_int16
from affetto.corpora.manifest import Manifest, Problem
from affetto.errors import AudioError, ManifestError
from affetto.parallel import can_fork, cores, processes
from affetto.progress import progress

SILENT_PEAK = 1e-3
"""A recording that never leaves ±0.001 of full scale (-60 dB) is silent."""

FULL_SCALE = 0.999
CLIPPED_SHARE = 0.01
"""A recording is clipped when more than this share of its samples is at full scale or above."""


class _Heard(NamedTuple):
    digest: bytes | None
    kind: str
    message: str


def describe(manifest: Manifest) -> str:
    """Returns counts, hours, speakers, classes by gender and sample rates, as plain text.

    Headers are read, samples are not.
    """
    table = manifest.table
    rates: Counter[int] = Counter()
    seconds, unreadable = 0.0, 0
    lengths: dict[object, tuple[float, int]] = {}
    for row in progress(range(len(manifest)), "read headers", len(manifest)):
        try:
            path = manifest.path(row)
            if path not in lengths:
                info = read_info(path)
                lengths[path] = (info.duration_seconds, info.rate)
            duration, rate = lengths[path]
        except (AudioError, ManifestError):
            unreadable += 1
            continue
        start, end = table["start"].iloc[row], table["end"].iloc[row]
        seconds += (duration if np.isnan(end) else end) - (0.0 if np.isnan(start) else start)
        rates[rate] += 1
    corpora = ", ".join(name for name in manifest.corpora if name)
    lines = [
        f"{len(manifest)} utterances, {seconds / 3600:.2f} hours, {len(manifest.speakers)} speakers"
        + (f", {corpora}" if corpora else ""),
        "sample rates: "
        + (", ".join(f"{rate} Hz ({count})" for rate, count in sorted(rates.items())) or "none"),
    ]
    if unreadable:
        lines.append(f"unreadable: {unreadable} (affetto manifest validate names them)")
    for name in ("language", "session", "split", "intensity_level"):
        counts = Counter(value for value in table[name] if value is not None)
        if counts:
            lines.append(
                f"{name}: " + ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            )
    if texts := table["text"].nunique():
        lines.append(f"texts: {texts} different")
    if votes := [name for name in table.columns if str(name).startswith("votes_")]:
        lines.append(f"votes: {int(table[votes[0]].notna().sum())} utterances, {', '.join(votes)}")
    return "\n".join([*lines, f"manifest hash: {manifest.sha256}", "", *_classes(table)])


def _classes(table: pd.DataFrame) -> list[str]:
    """Words the number of utterances by emotion and gender, with the speakers of each gender below."""
    genders = [*sorted(table["gender"].dropna().unique()), *([None] if table["gender"].isna().any() else [])]
    heads = ["emotion", *(gender or "unknown" for gender in genders), "all"]
    rows = []
    emotions = [
        *sorted(table["emotion"].dropna().unique()),
        *([None] if table["emotion"].isna().any() else []),
    ]
    for emotion in emotions:
        of = table[table["emotion"].isna() if emotion is None else table["emotion"] == emotion]
        rows.append([emotion or "(no label)", *_by_gender(of, genders), str(len(of))])
    rows.append(["all", *_by_gender(table, genders), str(len(table))])
    who = table.dropna(subset=["speaker"]).drop_duplicates(["corpus", "speaker"])
    rows.append(["speakers", *_by_gender(who, genders), str(len(who))])
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in [heads, *rows]
    ]


def _by_gender(table: pd.DataFrame, genders: list[str | None]) -> list[str]:
    return [
        str(int((table["gender"].isna() if name is None else table["gender"] == name).sum()))
        for name in genders
    ]


def problems(manifest: Manifest) -> list[Problem]:
    """Decodes every row, on all cores, and returns what is wrong with which.

    ``unreadable`` cannot be decoded, ``outside`` lies outside the root of its corpus, ``silent`` never leaves
    ±0.001 of full scale, ``clipped`` has more than 1 % of its samples at full scale, ``duplicate`` decodes
    to the same samples as an earlier row, ``contradictory`` does so and has another emotion or speaker.

    Returns:
        In the order of the table; empty when all is well.
    """
    found: list[Problem] = []
    first: dict[bytes, int] = {}
    clips, keys = _clips(manifest), manifest.keys
    with _workers() as pool:
        heard = _told(pool.map(_listen, *clips, chunksize=16))
        for row, (digest, kind, message) in enumerate(progress(heard, "decode", len(manifest))):
            if kind:
                found.append(Problem(keys[row], kind, message))
            if digest is None:
                continue
            earlier = first.setdefault(digest, row)
            if earlier != row:
                found.append(_same(manifest, earlier, row))
    return found


def _workers() -> AbstractContextManager[Executor]:
    """Returns a process a core; threads where a fork is not to be had.

    Threads would wait for each other: with uncompressed sound most of the work is in getting memory.
    """
    return processes(cores()) if can_fork() else ThreadPoolExecutor(cores())


def _told(heard: Iterator[_Heard]) -> Iterator[_Heard]:
    try:
        yield from heard
    except BrokenProcessPool as error:
        raise ManifestError(
            "a process that decoded was stopped from outside, as happens when memory is short; nothing is "
            "known of the rest: make room and validate again"
        ) from error


def _clips(manifest: Manifest) -> tuple[list[Path | str], list[float | None], list[float | None]]:
    """Returns where each row's recording lies, or why it may not be opened, and the seconds of its part."""
    places: list[Path | str] = []
    for cells in zip(*(manifest.table[name].tolist() for name in ("key", "corpus", "file")), strict=True):
        try:
            places.append(manifest.located(*cells))
        except ManifestError as error:
            places.append(str(error))
    times = (manifest.table[name].tolist() for name in ("start", "end"))
    starts, ends = ([None if value != value else float(value) for value in column] for column in times)
    return places, starts, ends


def _listen(place: Path | str, start: float | None, end: float | None) -> _Heard:
    if isinstance(place, str):
        return _Heard(None, "outside", place)
    try:
        samples = decode(place, start, end)
    except AudioError as error:
        return _Heard(None, "unreadable", str(error))
    size = np.abs(samples)
    if size.max() < SILENT_PEAK:
        return _Heard(None, "silent", f"no sample beyond {SILENT_PEAK} of full scale")
    digest = blake2b(to_int16(samples).tobytes(), digest_size=16).digest()
    share = float((size >= FULL_SCALE).mean())
    if share > CLIPPED_SHARE:
        return _Heard(digest, "clipped", f"{share:.1%} of the samples are at full scale")
    return _Heard(digest, "", "")


def _same(manifest: Manifest, earlier: int, row: int) -> Problem:
    one, other = manifest.table.iloc[earlier], manifest.table.iloc[row]
    different = [name for name in ("emotion", "speaker") if one[name] != other[name]]
    message = f"decodes to the same samples as {one['key']}"
    for name in different:
        message += f"; {name} {one[name]} there, {other[name]} here"
    return Problem(str(other["key"]), "contradictory" if different else "duplicate", message)
