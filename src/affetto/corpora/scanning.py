"""What every scan is built on: finds the recordings of a corpus, and makes rows of them."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any, TypeVar

import pandas as pd

from affetto.audio import read_info
from affetto.corpora.catalogue import CATALOGUE
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import some
from affetto.errors import AudioError, ManifestError, unknown
from affetto.progress import progress

AUDIO = frozenset(
    f".{name}"
    for name in (
        *("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc"),
        *("au", "snd", "caf", "w64", "rf64", "sph", "nist", "voc"),
    )
)
"""Suffixes that a scan takes for recordings."""

Named = TypeVar("Named")


def collect(
    root: Path,
    corpus: str,
    row: Callable[[Path], Mapping[str, Any] | None],
    folder: Path | None = None,
    notes: Iterable[str] = (),
) -> Manifest:
    """Makes a manifest of the recordings below a folder; what every scan is built on.

    Only headers are read. A recording that cannot be opened, that ``row`` refuses, or whose key came before
    becomes an entry of :attr:`Manifest.errors`.

    Args:
        root: the root of the corpus.
        corpus: its name.
        row: the columns of a recording from its path, or None for one that is no part of the corpus; may
            raise :class:`ManifestError` to refuse it. A missing key is the file's stem.
        folder: where to look; ``root`` when None.
        notes: passed on to the manifest.

    Raises:
        ManifestError: when not one recording is found.
    """
    rows: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    above = 0 if root == Path() else len(os.path.join(root, ""))
    for path in progress(find_audio(folder or root), f"scan {corpus}"):
        name = os.fspath(path)[above:].replace(os.sep, "/")
        try:
            name.encode()
        except UnicodeError:
            errors.append((name.encode("utf-8", "replace").decode(), "its name is not UTF-8; rename it"))
            continue
        try:
            columns = row(path)
            if columns is None:
                continue
            key = str(columns["key"]) if "key" in columns else path.stem
            if key in first:
                raise ManifestError(f"has the key {key!r} of {first[key]}, which is kept")
            read_info(path)
        except (AudioError, ManifestError) as error:
            errors.append((name, str(error)))
            continue
        first[key] = name
        rows.append({"corpus": corpus, **columns, "key": key, "file": name})
    if not rows:
        seen = f"; the first of {len(errors)} that were refused: {': '.join(errors[0])}" if errors else ""
        raise misfit(corpus, root, f"found no recording of {corpus} below {folder or root}{seen}")
    return Manifest(pd.DataFrame(rows), {corpus: root}, tuple(errors), tuple(notes))


def parts_of(path: Path, pattern: re.Pattern[str], shape: str) -> tuple[str, ...]:
    """Returns the groups of a pattern that a file's stem must match in full.

    Args:
        path: the file.
        pattern: with groups.
        shape: for the error: ``"ACTOR_SENTENCE_EMOTION_LEVEL"``.

    Raises:
        ManifestError: when it does not match.
    """
    found = pattern.fullmatch(path.stem)
    if found is None:
        raise ManifestError(f"is not named {shape}")
    return found.groups()


def decoded(kind: str, code: str, names: Mapping[str, Named]) -> Named:
    """Returns what a code in a file name or a table stands for.

    Args:
        kind: for the error: ``"emotion"``.
        code: as it is written.
        names: every code that the corpus has.

    Raises:
        ManifestError: for another code, with those that there are.
    """
    if code not in names:
        raise ManifestError(unknown(kind, code, names))
    return names[code]


def matched(manifest: Manifest, table: str, named: Collection[str], seen: Collection[str]) -> Manifest:
    """Returns the manifest, and tells what a table of labels and the recordings do not share.

    Args:
        manifest: what was collected.
        table: the name of the table.
        named: the recordings that it names.
        seen: the recordings that are there, readable or not.
    """
    errors, notes = manifest.errors, manifest.notes
    if absent := set(named).difference(seen):
        errors += ((table, f"{len(absent)} of its {len(named)} recordings are absent: {some(absent)}"),)
    if unnamed := set(seen).difference(named):
        notes += (f"{len(unnamed)} of {len(seen)} recordings are not in {table}: {some(unnamed)}",)
    return replace(manifest, errors=errors, notes=notes)


def text_of(path: Path | None) -> str | None:
    """Returns what a transcript says; None where there is none, or it is empty."""
    if path is None or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace").strip() or None


def misfit(corpus: str, root: Path, message: str) -> ManifestError:
    """Returns the error for a folder that is not laid out as its corpus is.

    Args:
        corpus: its name.
        root: the folder.
        message: what is wrong; what was expected and what is there is added.
    """
    found = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.glob("[!.]*"))
    about = CATALOGUE.get(corpus)
    wanted = f"\nexpected in {root}:\n" + indent(about.layout, "  ") if about else ""
    return ManifestError(f"{message}{wanted}\nfound there: {some(found) if found else 'nothing'}")


def find_audio(folder: Path) -> list[Path]:
    """Returns the recordings below a folder, sorted; hidden files and folders are passed over."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(parent, name) for name in files if _is_audio(name)]
    found.sort(key=lambda path: path.split(os.sep))  # as paths are sorted, which is slower
    return [Path(path) for path in found]


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO
