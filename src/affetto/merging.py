"""``affetto merge``: the outputs of all shards, put together as one run without shards writes them."""

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyarrow import parquet  # type: ignore[import-untyped]

from affetto.errors import RunError
from affetto.runs import DONE, MANIFEST, META, atomic_write, locked, read_json, write_json
from affetto.shards import DESCRIBED, Shard, described
from affetto.tables import GROUP_ROWS, VECTOR_ROWS, Row, read_rows, write_array, write_lines, write_parquet

_ROOTS, _MARKS = "manifest.roots.json", "manifest.marks.json"


class Merged(NamedTuple):
    """What was put together."""

    rows: int  # recordings, utterances or segments
    failed: int  # of them, could not be read
    parts: int


class _Part(NamedTuple):
    """The output of a shard, and what its description says."""

    given: Path  # as it was named
    file: Path  # which is described
    shard: Shard
    settings: dict[str, Any]
    places: list[int]
    facts: dict[str, Any]


def merge_parts(given: Sequence[str | Path], output: str | Path) -> Merged:
    """Writes the equal bytes of one run without shards, in memory that grows by the order of rows alone.

    Args:
        given: what ``--shard`` wrote: tables, arrays, folders; one for each shard, in any order.
        output: what that run would write: a file of the same suffix, or a folder.

    Raises:
        RunError: for shards that are missing, there twice, not complete, or made with different settings; for
            an output that is there.
    """
    output = Path(output)
    parts = sorted((_part(Path(each)) for each in given), key=lambda part: part.shard)
    _refuse_mixed(parts)
    verb, first = parts[0].settings["verb"], parts[0]
    folder = first.given.is_dir()
    if not folder and first.file.suffix.lower() != output.suffix.lower():
        raise RunError(f"the parts are {first.file.suffix}; name an output with that suffix, not {output}")
    with locked(output):
        for there in {output, output.with_suffix(".csv") if output.suffix == ".npy" else output}:
            if there.exists() and not (there.is_dir() and not any(there.iterdir())):
                raise RunError(f"{there} is there already; remove it, or name another output with -o")
        if verb == "scan":
            rows = _merge_scans(parts, output)
            return Merged(rows, sum(part.facts["failed"] for part in parts), len(parts))
        if verb == "annotate speakers":
            meta = _merge_speakers(parts, output)
            return Merged(meta["utterances"], len(meta["unreadable"]), len(parts))
        if folder:
            shutil.copytree(first.given / "recogniser", output / "recogniser")
        _merge_tables(parts, output / first.file.name if folder else output)
    clips, failed = (sum(part.facts[name] for part in parts) for name in ("clips", "failed"))
    return Merged(clips, failed, len(parts))


def _part(given: Path) -> _Part:
    """Reads the description of a part; a RunError for one that is not complete, or none."""
    inside = sorted(given.glob(f"*{DESCRIBED}")) if given.is_dir() else []
    found = next((file for file in (described(given), *inside) if file.is_file()), None)
    alone = [given.parent / f"{given.name}.part/options.json"]
    begun = given.glob("*.part/options.json") if given.is_dir() else alone
    for options in (file for file in begun if file.is_file()):
        shard = read_json(options).get("shard", "I/N")
        raise RunError(f"{given} is not complete; run its command, with --shard {shard}, again: it goes on")
    if found is None:
        raise RunError(
            f"{given} is no part of a run with --shard: there is no {described(given).name}; name what such "
            "runs wrote, which has such a file next to it"
        )
    content = read_json(found)
    file, shard = found.with_name(found.name.removesuffix(DESCRIBED)), Shard.read(content.pop("shard"))
    assert shard is not None
    needed = [file, file.with_suffix(".csv")] if file.suffix == ".npy" and not _is_run(given) else [file]
    if missing := [each for each in needed if not each.exists()]:
        raise RunError(f"{given} lacks {missing[0].name}; run its command, with --shard {shard}, again")
    if _is_run(given) and not (given / DONE).exists():
        raise RunError(f"{given} is not complete; run its command, with --shard {shard}, again: it goes on")
    return _Part(given, file, shard, content.pop("settings"), content.pop("places"), content)


def _is_run(given: Path) -> bool:
    return (given / "config.yaml").exists()


def _refuse_mixed(parts: list[_Part]) -> None:
    """Refuses parts of different runs, and shards that are missing or there twice."""
    if not parts:
        raise RunError("got no part; name what the runs with --shard wrote")
    first = parts[0]
    for part in parts:
        names = sorted({*first.settings, *part.settings})
        differ = [name for name in names if first.settings.get(name) != part.settings.get(name)]
        differ += ["N of --shard"] if part.shard.of != first.shard.of else []
        if differ:
            what = ", ".join("the list of recordings" if name == "listed" else name for name in differ)
            there = f"{first.given} and {part.given} were made with different settings ({what})"
            raise RunError(f"{there}; merge the parts of one run, made with one list and one set of options")
    numbers = [part.shard.number for part in parts]
    wrong = {
        "missing": [number for number in range(1, first.shard.of + 1) if number not in numbers],
        "there twice": sorted({number for number in numbers if numbers.count(number) > 1}),
    }
    for what, shards in wrong.items():
        if shards:
            named = ", ".join(f"{number}/{first.shard.of}" for number in shards)
            raise RunError(f"shards are {what}: {named}; merge each shard of the run once")


def _in_order(parts: list[_Part], rows: Iterable[Iterable[Any]]) -> Iterator[tuple[int, Any]]:
    """Yields rows in the order of the whole list, each with the number of its part."""

    def placed(number: int, part: _Part, own: Iterable[Any]) -> Iterator[tuple[int, int, Any]]:
        try:
            for place, row in zip(part.places, own, strict=True):
                yield place, number, row
        except ValueError as error:
            raise RunError(f"{part.given} has not the rows that it was written with; run it again") from error

    streams = [placed(number, part, own) for number, (part, own) in enumerate(zip(parts, rows, strict=True))]
    for _, number, row in heapq.merge(*streams, key=itemgetter(0)):
        yield number, row


def _merge_tables(parts: list[_Part], output: Path) -> None:
    """Writes a table, or an array and its table."""
    if output.suffix.lower() == ".npy":
        _merge_arrays(parts, output)
        return
    rows = (row for _, row in _in_order(parts, [read_rows(part.file) for part in parts]))
    if output.suffix.lower() == ".parquet":
        together = VECTOR_ROWS if parts[0].settings["verb"] == "embed" else GROUP_ROWS
        write_parquet(output, parquet.read_schema(parts[0].file), rows, together)
    else:
        write_lines(output, _names(parts[0].file, parts), rows)


def _names(file: Path, parts: list[_Part]) -> list[str]:
    """Returns the columns of a table, which only CSV has without a row."""
    if file.suffix.lower() == ".csv":
        with open(file, encoding="utf-8", errors="surrogateescape", newline="") as lines:
            return lines.readline().rstrip("\n").split(",")
    return next((list(row) for part in parts for row in read_rows(part.file)), [])


def _merge_arrays(parts: list[_Part], output: Path) -> None:
    arrays = [np.load(part.file, mmap_mode="r", allow_pickle=False) for part in parts]
    tables = [part.file.with_suffix(".csv") for part in parts]

    def rows() -> Iterator[tuple[int, Row]]:
        return _in_order(parts, [read_rows(table) for table in tables])

    def vectors() -> Iterator[bytes]:
        for number, row in rows():
            if row["row"]:
                start = int(row["row"])
                yield arrays[number][start : start + int(row.get("frames") or 1)].tobytes()

    def numbered() -> Iterator[Row]:
        count = 0
        for _, row in rows():
            if row["row"]:
                row["row"] = count
                count += int(row.get("frames") or 1)
            yield row

    write_array(output, sum(map(len, arrays)), arrays[0].shape[1], vectors())
    write_lines(output.with_suffix(".csv"), _names(tables[0], parts), numbered())


def _merge_scans(parts: list[_Part], output: Path) -> int:
    """Makes the manifest of what the scans found."""
    import pandas as pd

    from affetto.corpora import Manifest

    rows = [row for _, row in _in_order(parts, [part.facts["rows"] for part in parts])]
    if not rows:
        raise RunError("no shard has a usable recording; what each left out was said when it was scanned")
    read = [Manifest.read(part.file) for part in parts if part.places]
    roots = {corpus: root for manifest in read for corpus, root in manifest.roots.items()}
    marks = {name: own for manifest in read for name, own in manifest.marks.items()}
    Manifest(pd.DataFrame(rows), roots, marks=marks).write(output)
    return len(rows)


def _merge_speakers(parts: list[_Part], out: Path) -> dict[str, Any]:
    """Makes a run folder of ``annotate speakers``; equal samples keep one vector."""
    from affetto.corpora.tabular import VECTOR, near

    tables = [part.file.parent / MANIFEST for part in parts]
    metas, about = (
        [read_json(part.file.parent / name) for part in parts]
        for name in (META, parts[0].file.with_suffix(".json").name)
    )
    column, array = metas[0]["column"], Path(os.path.abspath(out / parts[0].file.name))
    places: dict[str, int] = {}
    taken: list[tuple[int, int]] = []
    unreadable: dict[str, str] = {}

    def rows() -> Iterator[Row]:
        for number, row in _in_order(parts, [read_rows(table) for table in tables]):
            for name, value in row.items():
                if ".npy#" in value and name != column and (found := VECTOR.fullmatch(value)):
                    file = os.path.abspath(tables[number].parent / found["file"])
                    row[name] = f"{near(file, array.parent)}#{found['row']}"
            if found := VECTOR.fullmatch(row[column]):
                sound = about[number]["hashes"][int(found["row"])]
                if places.setdefault(sound, len(places)) == len(taken):
                    taken.append((number, int(found["row"])))
                row[column] = f"{array.name}#{places[sound]}"
            else:
                unreadable[row["key"]] = metas[number]["unreadable"][row["key"]]
            yield row

    write_lines(out / MANIFEST, _names(tables[0], parts), rows())
    if not taken:
        (out / MANIFEST).unlink()
        raise RunError(
            f"none of the {len(unreadable)} utterances can be embedded: {next(iter(unreadable.values()))}"
        )
    arrays = [np.load(part.file, mmap_mode="r", allow_pickle=False) for part in parts]
    vectors = (arrays[number][place].tobytes() for number, place in taken)
    write_array(array, len(taken), arrays[0].shape[1], vectors)
    write_json(array.with_suffix(".json"), about[0] | {"hashes": list(places)})
    whole = {"utterances": sum(meta["utterances"] for meta in metas), "vectors": len(taken)}
    meta: dict[str, Any] = metas[0] | whole | {"unreadable": unreadable}
    _finish_run(parts[0].file.parent, out, meta)
    return meta


def _finish_run(first: Path, out: Path, meta: dict[str, Any]) -> None:
    """Writes what all parts have alike, and the mark of a finished run."""
    from affetto.corpora.tabular import near

    here = Path(os.path.abspath(out))
    roots = read_json(first / _ROOTS)
    write_json(
        out / _ROOTS, {name: near(os.path.abspath(first / root), here) for name, root in roots.items()}
    )
    for name in ("config.yaml", _MARKS):
        if (first / name).exists():
            with atomic_write(out / name) as temporary:
                shutil.copyfile(first / name, temporary)
    facts = read_json(first / "env.json")
    write_json(out / "env.json", {name: facts[name] for name in facts if name not in ("shard", "listed")})
    write_json(out / META, meta)
    (out / DONE).touch()
