"""What a manifest holds, and what is wrong with it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from affetto.audio import decode, read_info, to_int16
from affetto.corpora.tabular import TIMES
from affetto.errors import AudioError
from affetto.opening import Notes
from affetto.parallel import can_fork, cores, in_copies
from affetto.progress import progress

SILENT_PEAK = 1e-3  # -60 dB of full scale
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.01


class Problem(NamedTuple):
    """A fault of one row; :func:`problems` lists the kinds."""

    key: str
    kind: str
    message: str


_Part = tuple[Path | str, float | None, float | None]  # a recording, or why it may not be opened; its part
_Decoded = tuple[bytes | None, list[tuple[str, str]]]  # hash of the samples; kind and message of problems
KILLED = "the process that decoded it was killed from outside, as happens where memory is short"
_LOST: _Decoded = (None, [("unreadable", KILLED)])
_TOGETHER = 16  # recordings that a process takes at once
HEADERS = 1 << 14  # that are remembered, of recordings with several rows


def describe(table: pd.DataFrame, places: Iterable[Path | str], digest: str) -> str:
    """Returns counts, hours, speakers, classes by gender and sample rates, from headers alone.

    ``places`` are the recordings of the rows, or why one may not be opened; ``digest`` is the manifest's.
    """
    rates: Counter[int] = Counter()
    seconds, unreadable = 0.0, 0
    info = lru_cache(HEADERS)(read_info)
    rows = zip(places, table["start"], table["end"], strict=True)
    for place, start, end in progress(rows, "read headers", len(table)):
        try:
            if isinstance(place, str):
                raise AudioError(place)
            header = info(place)
        except AudioError:
            unreadable += 1
            continue
        seconds += (header.duration_seconds if np.isnan(end) else end) - (0.0 if np.isnan(start) else start)
        rates[header.rate] += 1
    corpora = ", ".join(sorted(table["corpus"].dropna().unique()))
    known_rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(rates.items()))
    counts = f"{len(table)} utterances, {seconds / 3600:.2f} hours, {table['speaker'].nunique()} speakers"
    lines = [", ".join(filter(None, (counts, corpora))), f"sample rates: {known_rates or 'none'}"]
    if unreadable:
        lines.append(f"unreadable: {unreadable} (affetto manifest validate names them)")
    for name in ("language", "session", "split", "intensity_level"):
        if values := Counter(table[name].dropna()):
            lines.append(f"{name}: " + ", ".join(f"{value} ({n})" for value, n in sorted(values.items())))
    if texts := table["text"].nunique():
        lines.append(f"texts: {texts} different")
    if votes := [name for name in table.columns if str(name).startswith("votes_")]:
        lines.append(f"votes: {int(table[votes[0]].notna().sum())} utterances, {', '.join(votes)}")
    return "\n".join([*lines, f"manifest hash: {digest}", "", _classes(table)])


def _classes(table: pd.DataFrame) -> str:
    """Returns utterances by emotion and gender, and below them the speakers of each gender."""
    if table.empty:
        return "no utterances"
    named = table.fillna({"emotion": "(no label)", "gender": "unknown"})
    counts = pd.crosstab(named["emotion"], named["gender"], margins=True, margins_name="all")
    who = named.dropna(subset=["speaker"]).drop_duplicates(["corpus", "speaker"])
    counts.loc["speakers"] = [*((who["gender"] == name).sum() for name in counts.columns[:-1]), len(who)]
    return counts.rename_axis(None, axis=0).rename_axis("emotion", axis=1).to_string()


def problems(table: pd.DataFrame, places: Iterable[Path | str]) -> list[Problem]:
    """Decodes every row, on all cores, and returns what is wrong with which, in the order of the table.

    ``unreadable`` cannot be decoded, ``outside`` is outside the root of its corpus, ``silent`` never leaves
    ±0.001 of full scale, ``clipped`` has more than 1 % of its samples at full scale, ``duplicate`` decodes
    to the same samples as an earlier row, ``contradictory`` does so and has another emotion or speaker,
    ``alike`` names a speaker or an emotion almost as another row does, ``header`` has a header that says
    nothing or something wrong, ``channels`` has channels that are silent or cancel each other out.
    ``places`` are the recordings of the rows, or why one may not be opened.
    """
    found = [*alike(table, "speaker"), *alike(table, "emotion")]
    first: dict[bytes, int] = {}
    times = ((None if second != second else second for second in table[name]) for name in TIMES)
    parts = zip(places, *times, strict=True)
    for row, (digest, own) in enumerate(progress(_checked(parts), "decode", len(table))):
        found += [Problem(str(table["key"].iloc[row]), kind, message) for kind, message in own]
        if digest is not None and (earlier := first.setdefault(digest, row)) != row:
            found.append(_same(table.iloc[earlier], table.iloc[row]))
    return found


def _checked(parts: Iterator[_Part]) -> Iterator[_Decoded]:
    forked = can_fork()
    groups = iter(lambda: list(islice(parts, _TOGETHER if forked else HEADERS)), [])
    if not forked:
        with ThreadPoolExecutor(cores()) as pool:
            for group in groups:
                yield from pool.map(_check, group)
        return
    # Threads would wait for each other: with uncompressed sound most of the work is in getting memory.
    for _, results in in_copies(lambda group: list(map(_check, group)), groups, cores(), lambda _: _LOST):
        yield from results


def alike(table: pd.DataFrame, column: str) -> Iterator[Problem]:
    """Yields names within a corpus that differ only in case, spaces, zeros in front or form of letters."""
    first: dict[tuple[Any, str], str] = {}
    rows = table.dropna(subset=[column]).drop_duplicates(["corpus", column])
    for key, corpus, name in rows[["key", "corpus", column]].itertuples(index=False):
        letters = unicodedata.normalize("NFKC", name).casefold()
        plain = "".join(letter for letter in letters if letter.isprintable() and not letter.isspace())
        other = first.setdefault((corpus, re.sub(r"(?<!\d)0+(?=\d)", "", plain)), name)
        if other != name:
            message = (
                f"the {column} {name!r} is spelled almost as {other!r}; if both are one, write them alike"
            )
            yield Problem(str(key), "alike", message)


def _check(part: _Part) -> _Decoded:
    place, *span = part
    if isinstance(place, str):
        return None, [("outside", place)]
    notes: Notes = {}
    try:
        samples = decode(place, *span, notes=notes)
    except AudioError as error:
        return None, [("unreadable", str(error))]
    except MemoryError:
        return None, [("unreadable", f"{place}: there is not enough memory to decode it; cut it into parts")]
    size, found = np.abs(samples), list(notes.items())
    if size.max() < SILENT_PEAK:
        return None, [*found, ("silent", f"no sample beyond {SILENT_PEAK} of full scale")]
    digest = blake2b(to_int16(samples).tobytes(), digest_size=16).digest()
    share = float((size >= FULL_SCALE).mean())
    if share > CLIPPED_SHARE:
        found.append(("clipped", f"{share:.1%} of the samples are at full scale"))
    return digest, found


def _same(one: "pd.Series[Any]", other: "pd.Series[Any]") -> Problem:
    names = [name for name in ("emotion", "speaker") if one[name] != other[name]]
    parts = [f"; {name} {one[name]} there, {other[name]} here" for name in names]
    message = "".join([f"decodes to the same samples as {one['key']}", *parts])
    return Problem(str(other["key"]), "contradictory" if names else "duplicate", message)
