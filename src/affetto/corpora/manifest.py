"""The manifest: one row an utterance, and where the recordings are.

A manifest is a table that any spreadsheet opens. Identifiers are strings ("03" stays "03"), what is not
known is empty, and file names are relative to the root of their corpus, so that a manifest may travel
without the audio.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.corpora import checks
from affetto.corpora.checks import Problem
from affetto.corpora.labels import Marks, apply_map, dropped, read_marks, read_named, with_votes, write_marks
from affetto.corpora.reading import read_parts, read_table
from affetto.corpora.tabular import COLUMNS, below, lacks, near, normal, with_array_files, write_table
from affetto.errors import ManifestError, some
from affetto.runs import write_json
from affetto.tables import PART_ROWS


@dataclass(frozen=True, eq=False)
class Manifest:
    """A table of utterances; a table without ``file``, or with one key twice, is a :class:`ManifestError`."""

    # One row an utterance; the columns of COLUMNS, then any others. Text columns hold ``str`` or None,
    # ``start`` and ``end`` are seconds or NaN.
    table: pd.DataFrame
    roots: Mapping[str, Path] = field(default_factory=dict)  # of file names, by corpus, or ""
    errors: tuple[tuple[str, str], ...] = ()  # recordings that a scan could not use, and what was wrong
    notes: tuple[str, ...] = ()  # further remarks of a scan, e.g. that a side table is absent
    marks: Mapping[str, Marks] = field(default_factory=dict)  # the labels that columns rest on, by column

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", normal(self.table))
        object.__setattr__(self, "roots", {name: Path(root) for name, root in self.roots.items()})

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def of(cls, manifest: "Manifest | str | Path") -> "Manifest":
        """Returns a manifest as it is, or reads the file of that name."""
        return manifest if isinstance(manifest, Manifest) else cls.read(manifest)

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> "Manifest":
        """Reads a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file with at least the column ``file``.

        The root of a corpus is the ``root`` argument, or else the variable ``AFFETTO_ROOT_<CORPUS>`` (upper
        case, ``-`` as ``_``; ``AFFETTO_ROOT`` for rows without a corpus), or else the entry of
        ``NAME.roots.json`` next to the manifest, or else the manifest's own folder, to which cells that name
        rows of an array, ``FILE.npy#ROW``, are relative too. A file that is no manifest is an error.
        """
        path = Path(path)
        with _naming(path):
            table = with_array_files(read_table(path), lambda file: os.path.abspath(path.parent / file))
            manifest = cls(table)
        return manifest._placed(path, root)

    @classmethod
    def parts(cls, path: str | Path, root: str | Path | None = None) -> Iterator["Manifest"]:
        """Yields the rows that :meth:`read` returns, some at a time, and the columns of all manifests alone.

        A table without keys is one part: theirs depend on all rows. That a key occurs twice is an error after
        the last part.
        """
        path = Path(path)
        hashes: list[NDArray[np.uint64]] = []
        keyed = True
        with _naming(path):
            for table in read_parts(path, PART_ROWS):
                if not (keyed := {"key", "file"}.issubset(table)):
                    break
                part = cls(table[[name for name in COLUMNS if name in table]])
                hashes.append(pd.util.hash_array(part.table["key"].to_numpy(object), categorize=False))
                yield part._placed(path, root)
        if not keyed:
            yield cls.read(path, root)
            return
        every = np.sort(np.concatenate(hashes))  # unlike np.unique, without a table of all of them
        if (every[1:] == every[:-1]).any():
            cls.read(path, root)  # names the keys

    def _placed(self, path: Path, root: str | Path | None) -> "Manifest":
        """Takes over the roots and marks that belong to the manifest's file, and returns the manifest."""
        places = read_named(_sidecar(path), str, "which corpus lies where")
        roots = {}
        for corpus in self.corpora:
            named = root or os.environ.get(_variable(corpus))
            roots[corpus] = Path(os.path.abspath(named or path.parent / places.get(corpus, ".")))
        object.__setattr__(self, "roots", roots)  # a new manifest would look at each cell once more
        object.__setattr__(self, "marks", read_marks(path))
        return self

    def write(self, path: str | Path, rows: Sequence[int] | None = None) -> None:
        """Writes the table, ``NAME.roots.json``, and ``NAME.marks.json`` where columns have marks.

        Only some ``rows``, by their numbers, where these are named. A root or an array inside the manifest's
        folder, or next to it, is written relative to the manifest.
        """
        path = Path(os.path.abspath(path))
        table = self.table if rows is None else self.table.iloc[np.asarray(rows, np.int64)]
        write_table(table, path, near_to=path.parent)
        write_json(_sidecar(path), {corpus: near(root, path.parent) for corpus, root in self.roots.items()})
        marks = {name: marks for name, marks in self.marks.items() if name in self.table}
        write_marks(path, marks, keep=False)

    @property
    def keys(self) -> list[str]:
        """The key of every row, in table order."""
        return [str(key) for key in self.table["key"]]

    @property
    def corpora(self) -> list[str]:
        """The corpora, sorted; "" stands for rows without one."""
        return sorted(self.table["corpus"].fillna("").unique())

    @property
    def owners(self) -> list[str]:
        """The speaker of each row as ``corpus/speaker``, unique everywhere; "" where none is known."""

        @cache
        def owner(corpus: str | None, name: str | None) -> str:
            joined = not name or name.startswith(f"{corpus or ''}/")  # as join writes where ids clash
            return name or "" if joined else f"{corpus or ''}/{name}"

        return list(map(owner, self.table["corpus"].tolist(), self.table["speaker"].tolist()))

    @property
    def speakers(self) -> list[str]:
        """The speakers, sorted; rows without one do not count."""
        return sorted(self.table["speaker"].dropna().unique())

    @property
    def labels(self) -> list[str]:
        """The emotions, sorted; rows without one do not count."""
        return sorted(self.table["emotion"].dropna().unique())

    @property
    def facts(self) -> dict[str, Any]:
        """What a run folder notes of the manifest: its hash, and the variables that name its roots."""
        return {"manifest_sha256": self.sha256, "roots": [_variable(name) for name in self.corpora]}

    @property
    def paths(self) -> list[Path]:
        """The absolute path of every row's recording."""
        return [self.located(*cells) for cells in self._files()]

    def path(self, row: int) -> Path:
        """Returns the absolute path of the recording of one row (a row number)."""
        return self.located(*(self.table[name].iloc[row] for name in ("key", "corpus", "file")))

    def located(self, key: str, corpus: str | None, file: str) -> Path:
        """Returns the path of a recording from the cells of its row; one outside the root is refused."""
        # ``..`` is resolved by name only, so a link inside the root may lead elsewhere.
        root = os.path.abspath(self.roots.get(corpus or "", ""))
        path = below(root, file)
        if not path.startswith(os.path.join(root, "")) and path != root:
            raise ManifestError(
                f"{key}: {file} lies outside {root}, the root of {corpus or 'this manifest'}; "
                "name the folder that holds all files with --root"
            )
        return Path(path)

    @property
    def sha256(self) -> str:
        """Hash over the sorted (key, speaker, emotion): annotating or re-encoding does not change it."""
        columns = [self.table[name].tolist() for name in ("key", "speaker", "emotion")]
        order, digest = sorted(range(len(self)), key=columns[0].__getitem__), hashlib.sha256(b"[")
        for begin in range(0, len(order), PART_ROWS):  # of the JSON of all, of which some is in memory
            rows = [[each[row] for each in columns] for row in order[begin : begin + PART_ROWS]]
            text = json.dumps(rows, ensure_ascii=False)[1:-1]
            digest.update((", " * (begin > 0) + text).encode())
        digest.update(b"]")
        return digest.hexdigest()

    def where(self, rows: "Collection[str] | NDArray[np.bool_] | pd.Series[bool]") -> "Manifest":
        """Returns the rows that a mask or a collection of keys, all of them known, names, in table order."""
        if isinstance(rows, np.ndarray | pd.Series):
            mask = np.asarray(rows)
            if mask.dtype != np.bool_ or mask.shape != (len(self),):
                raise ManifestError(f"got a mask of {mask.dtype} {mask.shape}; bool ({len(self)},) is needed")
        else:
            wanted = set(rows)
            if missing := wanted.difference(self.keys):
                raise ManifestError(f"no row has {some(missing)}")
            mask = np.asarray(self.table["key"].isin(wanted))
        return replace(self, table=self.table[mask].reset_index(drop=True))

    def require(self, *columns: str) -> None:
        """Raises ManifestError where a column does not exist or is empty in some rows, which it names."""
        for name in columns:
            if name not in self.table.columns:
                raise ManifestError(lacks(name, self.table.columns))
            empty = self.table.loc[self.table[name].isna(), "key"]
            if len(empty):
                raise ManifestError(f"the column {name!r} is empty in {len(empty)} rows: {some(empty)}")

    def with_columns(
        self, columns: Mapping[str, Any], marks: Mapping[str, Marks] | None = None
    ) -> "Manifest":
        """Returns the manifest with further columns (name to values in table order), and only their marks."""
        kept = {name: marks for name, marks in self.marks.items() if name not in columns}
        return replace(self, table=self.table.assign(**columns), marks={**kept, **(marks or {})})

    def describe(self) -> str:
        """Returns counts, hours, speakers, classes by gender and sample rates, as plain text."""
        return checks.describe(self.table, self.places(), self.sha256)

    def problems(self) -> list[Problem]:
        """Decodes every row and returns what is wrong with which; empty when all is well."""
        return checks.problems(self.table, self.places())

    def _files(self) -> "zip[tuple[Any, ...]]":
        return zip(*(self.table[name] for name in ("key", "corpus", "file")), strict=True)

    def places(self) -> Iterator[Path | str]:
        """Yields the recording of each row, or why it may not be opened."""
        for cells in self._files():
            try:
                yield self.located(*cells)
            except ManifestError as error:
                yield str(error)

    def relabelled(self, name: str, drop: bool = False) -> "Manifest":
        """Returns the manifest with the classes of a map of :data:`~affetto.corpora.labels.LABEL_MAPS`.

        Emotions that the map does not name are refused; with ``drop`` these rows, and those without an
        emotion, are left out.
        """
        emotions = self.table["emotion"]
        if (lost := dropped(emotions, name)) and not drop:
            named = ", ".join(f"{emotion} ({rows} rows)" for emotion, rows in lost.items())
            message = f"the map {name} says nothing of {named}; with --drop these rows are left out"
            raise ManifestError(message)
        mapped = np.array([apply_map(emotion, name) for emotion in emotions], dtype=object)
        changed = replace(self, table=with_votes(self.table.assign(emotion=mapped), name))
        return changed.where(changed.table["emotion"].notna()) if drop else changed

    @staticmethod
    def join(manifests: Sequence["Manifest"]) -> "Manifest":
        """Puts the rows of several manifests into one.

        Where two corpora use the same key or speaker id, every id of that column gets its corpus in front
        (``emodb/03``), since speaker 03 of one corpus is not speaker 03 of another; a note reports it. A
        corpus with two roots is refused.
        """
        roots: dict[str, Path] = {}
        marks: dict[str, Marks] = {}
        notes = [note for manifest in manifests for note in manifest.notes]
        for manifest in manifests:
            for corpus, root in manifest.roots.items():
                if roots.setdefault(corpus, root) != root:
                    raise ManifestError(
                        f"corpus {corpus!r} has two roots: {roots[corpus]} and {root}; scan them "
                        "together, from a folder that holds both"
                    )
            for name, own in manifest.marks.items():
                marks[name] = marks.get(name, Marks()) | own
        table = pd.concat([manifest.table for manifest in manifests], ignore_index=True)
        for name in ("key", "speaker"):
            used = table[["corpus", name]].dropna().drop_duplicates()[name]
            if len(shared := used[used.duplicated()]):
                if name == "speaker":
                    notes.append(
                        f"speakers with one name in several corpora count as different people: {some(shared)}"
                        "; where they are not, scan all recordings together, from a folder that holds all"
                    )
                filled = table[name].notna() & table["corpus"].notna()
                table.loc[filled, name] = table.loc[filled, "corpus"] + "/" + table.loc[filled, name]
        errors = tuple(error for manifest in manifests for error in manifest.errors)
        return Manifest(table, roots, errors, tuple(notes), marks)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def _variable(corpus: str) -> str:
    """Returns the environment variable that names the root of a corpus."""
    return "_".join(["AFFETTO_ROOT", corpus.upper().replace("-", "_")]).rstrip("_")


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.stem}.roots.json")
