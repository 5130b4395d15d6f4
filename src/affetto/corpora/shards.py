"""Tar files of other programs, as tables: Lhotse Shar, WebDataset, and any tar file of recordings."""

import gzip
import json
import math
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from affetto.audio import SAMPLE_RATE
from affetto.media import AUDIO, MEDIA
from affetto.members import member_name
from affetto.progress import progress

_TEXTS = {"txt": "text", "cls": "cls"}  # members of WebDataset that are one cell, and its column
_SOURCE = ("file", "start", "end", "samples")
_SLACK_SECONDS = 0.01  # by which a supervision of a whole cut may be shorter than the cut
_Cells = dict[str, Any]


def tars_of(root: Path) -> list[Path]:
    """Returns a tar file itself, or those below a folder, sorted."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    return sorted(path for path in root.rglob("*.tar") if path.is_file())


def samples_of(frames: int, rate: int) -> int:
    """Returns how many samples at 16 kHz so many frames become."""
    return max(1, int(frames * SAMPLE_RATE / rate + 0.5))


def read_shards(tars: list[Path], home: Path, notes: list[str]) -> pd.DataFrame:
    """Returns a row for each recording in tar files: its place below ``home``, its key, and what comes along.

    That are the cells of ``KEY.json``, ``KEY.txt`` as the text and ``KEY.cls``; in Lhotse Shar, where
    ``cuts.NUMBER.jsonl.gz`` is next to ``recording.NUMBER.tar``, a row for each supervision of a cut. Notes
    count what is neither. A damaged tar file is a row of its own, which is no recording. Nothing is unpacked.
    """
    rows: list[_Cells] = []
    passed: Counter[str] = Counter()
    for tar in progress(tars, "scan tars"):
        field, _, rest = tar.name[:-4].partition(".")
        cuts = [tar.with_name(f"cuts.{rest}.jsonl{suffix}") for suffix in (".gz", "")]
        listed = next((path for path in cuts if path.is_file()), None) if rest else None
        place, own = tar.relative_to(home).as_posix(), list[_Cells]()
        if listed and field != "recording":
            passed[f"tar files of {field}"] += 1
            continue
        try:
            for row in _of_shar(tar, place, listed, passed) if listed else _of_keys(tar, place, passed):
                own.append(row)
        except (tarfile.TarError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
            notes.append(f"{tar}: of no use after {len(own)} recordings: {error}")
            own.append({"file": place})
        rows += own
    if passed:
        counts = ", ".join(f"{count} {what}" for what, count in passed.most_common())
        notes.append(f"passed over in tar files: {counts}")
    return _with_own_keys(pd.DataFrame(rows, columns=None if rows else ["file"]))


def _with_own_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with the name of the tar file in front of each key, where files share keys."""
    if "key" not in table or not table["key"].dropna().duplicated().any():
        return table
    tars = table["file"].str.extract(r"^(.+?)\.tar(?:/|$)", expand=False)
    return table.assign(key=tars.str.cat(table["key"], "/"))


def _members(tar: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with tarfile.open(tar, "r:") as file:
        while (member := file.next()) is not None:
            file.members.clear()  # type: ignore[attr-defined]  # else it would keep all of them
            if member.isreg():
                yield member, file


def _content(member: tarfile.TarInfo, file: tarfile.TarFile) -> str:
    found = file.extractfile(member)
    assert found is not None  # of a regular file
    return found.read().decode("utf-8-sig")


def _place(tar: str, member: tarfile.TarInfo) -> str:
    return member_name(tar, member.offset_data, member.size, member.name.lstrip("/"))


def _of_keys(tar: Path, place: str, passed: Counter[str]) -> Iterator[_Cells]:
    """Yields the recordings of a tar file; members whose names agree up to the first dot are one row."""
    held, cells = "", _Cells()
    for member, file in _members(tar):
        folder, base = os.path.split(member.name)
        stem, _, suffix = base.partition(".")
        key, suffix = os.path.join(folder, stem), suffix.lower()
        if key != held:
            if "file" in cells:
                yield cells
            held, cells = key, {"key": key}
        if f".{suffix.rpartition('.')[2]}" in AUDIO | MEDIA:
            if "file" in cells:
                passed["further recordings of a key"] += 1
            else:
                cells["file"] = _place(place, member)
        elif suffix == "json":
            content = json.loads(_content(member, file))
            own = content if isinstance(content, dict) else {"json": content}
            # Where the recording was before it came into the tar file is kept under other names.
            cells |= {f"source_{name}" if name in _SOURCE else name: cell for name, cell in own.items()}
        elif suffix in _TEXTS:
            cells[_TEXTS[suffix]] = _content(member, file).strip()
        else:
            passed[f".{suffix}"] += 1
    if "file" in cells:
        yield cells


def _of_shar(tar: Path, place: str, cuts: Path, passed: Counter[str]) -> Iterator[_Cells]:
    """Yields the supervisions of cuts whose recordings are in a tar file, or the cuts that have none."""
    places = {
        os.path.splitext(member.name)[0]: _place(place, member)
        for member, _ in _members(tar)
        if not member.name.endswith((".json", ".nodata", ".nometa"))
    }
    with gzip.open(cuts, "rb") if cuts.suffix == ".gz" else open(cuts, "rb") as lines:
        for cut in map(json.loads, lines):
            if cut["id"] not in places:
                passed["cuts without a recording"] += 1
                continue
            supervisions = cut.get("supervisions") or [{}]
            for own in supervisions:
                cells = {**(cut.get("custom") or {}), **(own.get("custom") or {})}
                cells |= {name: own.get(name) for name in ("speaker", "gender", "text", "language")}
                start, end = own.get("start", 0.0), own.get("start", 0.0) + own.get("duration", math.inf)
                if start > _SLACK_SECONDS or end < cut["duration"] - _SLACK_SECONDS:
                    cells |= {"start": max(0.0, start), "end": min(end, cut["duration"])}
                key = cut["id"] if len(supervisions) == 1 else f"{cut['id']}-{own['id']}"
                yield {**cells, "key": key, "file": places[cut["id"]]}
