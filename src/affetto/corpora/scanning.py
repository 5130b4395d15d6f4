"""The base of every scan: the facts of a corpus, and a manifest of the recordings below a folder."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import yaml

from affetto.audio import read_info
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import is_missing
from affetto.errors import AudioError, ManifestError, some, unknown
from affetto.media import AUDIO, passed_over, recordings_below
from affetto.opening import Notes
from affetto.progress import progress
from affetto.shards import Division, Shard
from affetto.tables import PART_ROWS

Decoded = TypeVar("Decoded")


_DIVISION: ContextVar[Division] = ContextVar("division")  # so that no corpus has to pass it on


class About(NamedTuple):
    """The facts of a corpus, as ``affetto corpora`` and the documentation list them."""

    name: str
    title: str  # its full name, and what kind of speech it is
    language: str = ""
    size: str = ""  # utterances, hours, speakers
    classes: str = ""  # emotions by affetto's names; empty where none are labelled
    licence: str = ""  # in short; the text of the corpus decides
    obtain: str = ""  # where to get it, or whom to ask
    layout: str = ""  # the folder that ``scan`` reads, one line for each thing


class Corpus(NamedTuple):
    """A corpus: its facts, and the function that makes a manifest of its folder."""

    about: About
    scan: Callable[..., Manifest]


def read_about(module: str) -> About:
    """Reads the facts of a corpus from the YAML file next to its module."""
    file = Path(module).with_suffix(".yaml")
    return About(name=file.stem.replace("_", "-"), **yaml.safe_load(file.read_text(encoding="utf-8")))


def collect(
    root: Path,
    about: About,
    row: Callable[[Path], Mapping[str, Any] | None],
    folder: Path | None = None,
    notes: Iterable[str] = (),
) -> Manifest:
    """Makes a manifest of the recordings below ``folder``, or ``root``, whose headers alone are read.

    ``row`` returns the columns of a recording from its path, or None for one that is no part of the corpus,
    or raises a :class:`ManifestError` to refuse it; a missing key is the file's stem. A recording that is
    refused, that cannot be opened, or whose key came before becomes an entry of :attr:`Manifest.errors`. A
    corpus without any raises :func:`misfit`.
    """
    corpus, division = about.name, current_division()
    rows = Gathered(division)
    remarks = list(notes)
    errors: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    odd: list[str] = []
    above = 0 if root == Path() else len(os.path.join(root, ""))
    for found in progress(find_audio(folder or root, remarks), f"scan {corpus}"):
        path, name = Path(found), found[above:].replace(os.sep, "/")
        try:
            name.encode()
        except UnicodeError:
            if division.takes(name):
                errors.append((name.encode("utf-8", "replace").decode(), "its name is not UTF-8; rename it"))
            continue
        try:
            columns = row(path)
            if columns is None:
                continue
            key = str(columns["key"]) if "key" in columns else path.stem
        except ManifestError as error:
            if division.takes(name):
                errors.append((name, str(error)))
            continue
        if not division.takes(key):  # rows with one key are of one shard
            continue
        try:
            if key in first:
                raise ManifestError(f"has the key {key!r} of {first[key]}, which is kept")
            doubts: Notes = {}
            read_info(path, doubts)
        except (AudioError, ManifestError) as error:
            errors.append((name, str(error)))
            continue
        first[key] = name
        odd += [name] if doubts else []
        rows.add({"corpus": corpus, **columns, "key": key, "file": name})
    if not rows.count and not division.others:
        if errors and all("git lfs pull" in message for _, message in errors):
            there = f"{folder or root}: its {len(errors)} recordings are pointers of git-lfs"
            raise ManifestError(f"{there}; git lfs pull fetches the recordings")
        seen = f"; the first of {len(errors)} that were refused: {': '.join(errors[0])}" if errors else ""
        raise misfit(about, root, f"found no recording of {corpus} below {folder or root}{seen}")
    return Manifest(rows.table(), {corpus: root}, tuple(errors), (*remarks, *odd_headers(odd)))


class Gathered:
    """The rows that a scan takes; most are parts of a table, which needs a tenth of the memory."""

    def __init__(self, division: Division) -> None:
        self._division = division
        self.count, self._rows, self._parts = 0, list[dict[str, Any]](), list[pd.DataFrame]()

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row, also to the share of all that the scan looks at."""
        self._division.keep(row)
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == PART_ROWS:
            self._parts.append(pd.DataFrame(self._rows))
            self._rows = []

    def table(self) -> pd.DataFrame:
        """Returns all rows, once; without any, the least columns of a manifest."""
        if not self.count:
            return pd.DataFrame(columns=["key", "file", "corpus"])
        parts, self._parts = [*self._parts, pd.DataFrame(self._rows)][: -(-self.count // PART_ROWS)], []
        return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def records(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yields the cells of each row that are not empty, by column."""
    for begin in range(0, len(table), PART_ROWS):
        for row in table.iloc[begin : begin + PART_ROWS].to_dict("records"):
            yield {str(column): value for column, value in row.items() if not is_missing(value)}


@contextmanager
def dividing(shard: Shard | None) -> Iterator[Division]:
    """Makes scans look at a shard of the recordings; yields what was taken, which they fill."""
    division = Division(shard)
    before = _DIVISION.set(division)
    try:
        yield division
    finally:
        _DIVISION.reset(before)


def current_division() -> Division:
    """Returns the share that a scan looks at: all, outside of :func:`dividing`."""
    return _DIVISION.get(Division(None))


def odd_headers(names: Collection[str]) -> list[str]:
    """Returns a note on recordings whose headers are wrong; none where there are none."""
    there = f"{len(names)} recordings have a header that says nothing or something wrong"
    return [f"{there}, and are read all the same: {some(names)}"] if names else []


def parts_of(path: Path, pattern: re.Pattern[str], named: str) -> tuple[str, ...]:
    """Returns the groups of a pattern that a file's stem matches in full; ``named`` words the error."""
    found = pattern.fullmatch(path.stem)
    if found is None:
        raise ManifestError(f"is not named {named}")
    return found.groups()


def of_code(kind: str, code: str, names: Mapping[str, Decoded]) -> Decoded:
    """Returns what a code stands for; the error for another code lists the codes of that kind."""
    if code not in names:
        raise ManifestError(unknown(kind, code, names))
    return names[code]


def matched(manifest: Manifest, table: str, named: Collection[str], seen: Collection[str]) -> Manifest:
    """Returns the manifest with an error for absent recordings of a table, and a note on those it lacks.

    ``seen`` are all that are there, readable or not.
    """
    errors, notes = manifest.errors, manifest.notes
    if absent := set(named).difference(seen):
        errors += ((table, f"{len(absent)} of its {len(named)} recordings are absent: {some(absent)}"),)
    if unnamed := set(seen).difference(named):
        notes += (f"{len(unnamed)} of {len(seen)} recordings are not in {table}: {some(unnamed)}",)
    return replace(manifest, errors=errors, notes=notes)


def lines_of(path: Path) -> list[str]:
    """Returns the lines of a text file; bytes that are not UTF-8 are replaced."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def text_of(path: Path | None) -> str | None:
    """Returns the text of a transcript; None where there is none, or it is empty."""
    if path is None or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace").strip() or None


def misfit(about: About, root: Path, message: str) -> ManifestError:
    """Returns the error for another layout: the message, what was expected, and what is there."""
    found = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.glob("[!.]*"))
    wanted = f"\nexpected in {root}:\n" + indent(about.layout, "  ") if about.layout else ""
    return ManifestError(f"{message}{wanted}\nfound there: {some(found) if found else 'nothing'}")


def find_audio(folder: Path, notes: list[str] | None = None) -> list[str]:
    """Returns the recordings below a folder, sorted; a note says what was passed over.

    Those that need PyAV, such as m4a and mp4, only where there are no others: they may be videos of the same.
    """
    passed: Counter[str] = Counter()
    everything = list(recordings_below(folder, passed))
    suffixes = [os.path.splitext(path)[1].lower() for path in everything]
    found = [path for path, suffix in zip(everything, suffixes, strict=True) if suffix in AUDIO]
    if found:
        passed.update(suffix for suffix in suffixes if suffix not in AUDIO)
    if notes is not None and (note := passed_over(folder, passed)):
        notes.append(note)
    found = found or everything
    found.sort(key=lambda path: path.replace(os.sep, "\0"))  # as paths are sorted, which is slower
    return found
