"""Packing: the recordings of a manifest in a few large tar files, and a manifest of these."""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np

from affetto.audio import SAMPLE_RATE, decode, read_info, to_int16
from affetto.config import Settings, build
from affetto.corpora.checks import KILLED, Problem
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import SAMPLES, TIMES, VECTOR, is_missing, write_table
from affetto.errors import AudioError, ManifestError
from affetto.members import encoded, member_name, member_of
from affetto.parallel import can_fork, cores, in_copies
from affetto.progress import progress
from affetto.runs import META, RunFolder, atomic_write, read_json, write_text

PACKED = "manifest.parquet"
LEFT_OUT = "left-out.csv"

_SHARD_BYTES = 256 << 20  # from which on a shard is closed
_TOGETHER = 16  # recordings that a process takes at once

_Row = tuple[Path | str, float | None, float | None, tuple[Any, ...]]
"""A recording, or why it may not be opened; its part; the cells of its row."""

_Encoded = tuple[dict[str, Any], bytes | str, int]
"""The cells of a row, its recording or why there is none, and the samples in it."""


class PackSettings(Settings):
    """How recordings are packed."""

    format: Literal["flac", "opus"] = "flac"


class Packed(NamedTuple):
    """What :func:`pack` made: rows, shards, bytes of these, and rows that were left out."""

    rows: int
    shards: int
    size: int
    left_out: int


def pack(manifest: Manifest, out: str | Path, form: str = "flac") -> Packed:
    """Writes every row's recording, mono at 16 kHz, into shards: tar files of about 256 MiB.

    A shard holds ``KEY.flac`` (16 bits) or ``KEY.opus`` and ``KEY.json``, the row, as WebDataset has it; its
    hash and the places of its recordings are in a JSON file next to it. The same call again goes on after the
    last finished shard. Rows whose recording cannot be read are in ``left-out.csv``. Rows keep their order.

    Raises:
        RunError: for a folder of another manifest, of another format, or with other files.
    """
    run, settings = RunFolder(out, "manifest pack"), build(PackSettings, {"format": form})
    cells = manifest.table[["file", *TIMES]].astype(str).to_numpy().tolist()
    places = hashlib.sha256(json.dumps(cells).encode()).hexdigest()
    with run.locked():
        if not run.start(settings, **manifest.facts, places_sha256=places):
            return Packed(**read_json(run / META)["packed"])
        shards = list(_finished(run.path))
        done = sum(len(shard["rows"]) for shard in shards)
        encodings = progress(_encoded(manifest, done, form), "pack", len(manifest) - done)
        while done < len(manifest):
            shards.append(_write_shard(run / f"shard-{len(shards):06d}", encodings, form))
            done += len(shards[-1]["rows"])
        return _write_manifest(manifest, run, shards, form)


def damaged_shards(manifest: Manifest) -> Iterator[Problem]:
    """Yields the tar files of a manifest that differ from the hash that was written with them."""
    members = (member_of(place) for place in manifest.places())
    tars = sorted({member.tar for member in members if member})
    for tar in progress(tars, "verify shards"):
        index, wanted = Path(tar).with_suffix(".json"), None
        with suppress(OSError, ValueError):
            wanted = read_json(index)
        if not isinstance(wanted, dict) or "sha256" not in wanted:  # a file of another program, or none
            continue
        try:
            with open(tar, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Problem(Path(tar).name, "damaged", f"{tar}: {error.strerror or error}")
            continue
        if found != wanted["sha256"]:
            message = f"{tar} differs from the hash in {index.name}; copy it again, or pack again"
            yield Problem(Path(tar).name, "damaged", message)


def _finished(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields what is in the shards that an earlier call finished."""
    number = 0
    while (folder / f"shard-{number:06d}.json").is_file():
        shard = read_json(folder / f"shard-{number:06d}.json")
        tar = folder / f"shard-{number:06d}.tar"
        if not tar.is_file() or tar.stat().st_size != shard["bytes"]:
            raise ManifestError(f"{tar} is not as it was written; remove {folder} and pack again")
        yield shard
        number += 1


def _encoded(manifest: Manifest, done: int, form: str) -> Iterator[_Encoded]:
    """Yields the rows after ``done`` in order, encoded on all cores."""
    table = manifest.table
    times = ([None if np.isnan(second) else second for second in table[name].tolist()] for name in TIMES)
    cells = zip(*(table[name].tolist() for name in table), strict=True)
    rows = islice(zip(manifest.places(), *times, cells, strict=True), done, None)
    groups = iter(lambda: list(islice(rows, _TOGETHER)), [])

    def encode(group: list[_Row]) -> list[tuple[bytes | str, int]]:
        return [_encode(*row[:3], form) for row in group]

    in_groups: Iterable[tuple[list[_Row], list[tuple[bytes | str, int]]]]
    if can_fork():
        in_groups = in_copies(encode, groups, cores(), lambda _: (KILLED, 0))
    else:
        in_groups = ((group, encode(group)) for group in groups)
    for group, made in in_groups:
        for (*_, row), (data, samples) in zip(group, made, strict=True):
            named = zip(map(str, table), row, strict=True)
            # A row of an array has no meaning where the array is not.
            yield (
                {name: cell for name, cell in named if not (is_missing(cell) or VECTOR.fullmatch(str(cell)))},
                data,
                samples,
            )


def _encode(place: Path | str, start: float | None, end: float | None, form: str) -> tuple[bytes | str, int]:
    try:
        if isinstance(place, str):
            raise AudioError(place)
        data = encoded(to_int16(decode(place, start, end)), SAMPLE_RATE, form)
        return data, read_info(data).frames
    except AudioError as error:
        return str(error), 0


def _write_shard(stem: Path, recordings: Iterator[_Encoded], form: str) -> dict[str, Any]:
    """Writes a tar file and its JSON file; returns the content of the latter."""
    rows: list[list[int] | str] = []
    digest, size = hashlib.sha256(), 0
    with atomic_write(stem.with_suffix(".tar")) as temporary, open(temporary, "wb") as file:

        def write(data: bytes) -> None:
            nonlocal size
            file.write(data)
            digest.update(data)
            size += len(data)

        def add(name: str, data: bytes) -> int:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            write(info.tobuf(tarfile.PAX_FORMAT))
            begin = size
            write(data + b"\0" * (-len(data) % tarfile.BLOCKSIZE))
            return begin

        for row, data, samples in recordings:
            if isinstance(data, str):
                rows.append(data)
                continue
            name = _name(row["key"])
            rows.append([add(f"{name}.{form}", data), len(data), samples])
            add(f"{name}.json", json.dumps(row, ensure_ascii=False).encode())
            if size >= _SHARD_BYTES:
                break
        write(b"\0" * (2 * tarfile.BLOCKSIZE + (-size - 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE))
    content = {"sha256": digest.hexdigest(), "bytes": size, "rows": rows}
    write_text(stem.with_suffix(".json"), json.dumps(content) + "\n")
    return content


def _name(key: str) -> str:
    """Returns a key without what file systems or WebDataset take for something else, such as dots."""
    return quote(key, safe="/").replace(".", "%2E").lstrip("/")


def _write_manifest(manifest: Manifest, run: RunFolder, shards: list[dict[str, Any]], form: str) -> Packed:
    """Writes the manifest of the shards and the table of what was left out, and closes the folder."""
    found = [(number, row) for number, shard in enumerate(shards) for row in shard["rows"]]
    there = np.array([not isinstance(row, str) for _, row in found], bool)
    kept = manifest.where(there)
    rows = [(number, *row) for number, row in found if not isinstance(row, str)]
    files = [
        member_name(f"shard-{number:06d}.tar", offset, size, f"{_name(key)}.{form}")
        for (number, offset, size, _), key in zip(rows, kept.keys, strict=True)
    ]
    columns = {"file": files, "start": np.nan, "end": np.nan, SAMPLES: [row[3] for row in rows]}
    made = kept.with_columns(columns, kept.marks)
    replace(made, roots=dict.fromkeys(made.corpora, run.path.absolute())).write(run / PACKED)
    result = Packed(len(kept), len(shards), sum(shard["bytes"] for shard in shards), int((~there).sum()))
    if result.left_out:
        left = manifest.table.loc[~there, ["key", "file"]]
        reasons = [row for _, row in found if isinstance(row, str)]
        write_table(left.assign(error=reasons), run / LEFT_OUT)
    run.finish({"packed": result._asdict()})
    return result
