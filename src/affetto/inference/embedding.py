"""``embed``: vectors of any number of recordings, written as they come, in memory that does not grow."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]
from numpy.typing import NDArray

from affetto.errors import ConfigError, RunError, unknown
from affetto.inference.pipeline import CHUNK_SECONDS, Computed, Engine, Plan, by_clip, in_order, padded, whole
from affetto.inference.segments import Cut
from affetto.inference.sources import Clip, Piece, Root, Sources
from affetto.inference.writers import NUMBER, TEXT, VECTORS, Outcome, Shards, write_npy
from affetto.models.representation import Representation
from affetto.progress import progress
from affetto.shards import Shard
from affetto.tables import FLOAT, VECTOR_ROWS, Row, write_lines, write_parquet

NPY, PARQUET = ".npy", ".parquet"
_CHUNK_BYTES = 1 << 27  # of frames that are held at once; up to three chunks are in progress
_TYPES = {
    "key": TEXT,
    "file": TEXT,
    "start": NUMBER,
    "end": NUMBER,
    **VECTORS,
    "warning": TEXT,
    "error": TEXT,
}


def embed(
    representation: Representation,
    sources: Sources,
    output: str | Path,
    *,
    frames: bool = False,
    root: Root = None,
    channel: int | None = None,
    workers: int | None = None,
    shard: str | None = None,
    engine: Engine | None = None,
) -> Outcome:
    """Writes the vectors of recordings, one each or one a frame.

    A recording longer than a minute goes through in parts of 30 s: its vector is the mean of theirs, weighted
    by their lengths; its frames make a row a part. An interrupted output is continued, and a finished one
    left alone, as by :func:`~affetto.inference.output.predict`.

    Args:
        representation: from :func:`~affetto.inference.loading.load_representation`.
        sources: recordings, folders, manifests; file names in these are relative to ``root``.
        output: ``.npy`` for an array ``(N, D)`` and a ``.csv`` next to it, whose column ``row`` names the row
            (with frames: the first of how many); ``.parquet`` for one table with the vectors in it.
        frames: a vector for every frame of the encoder.
        root: a folder.
        channel: the only channel to read, counted from 1; None for all, mixed.
        workers: threads, or processes where there are many recordings; None for one a core.
        shard: as of :func:`~affetto.inference.output.predict`.
        engine: as of :func:`~affetto.inference.output.predict`.
    """
    path = Path(output)
    if path.suffix.lower() not in (NPY, PARQUET):
        raise ConfigError(unknown("output format", path.suffix or path.name, [NPY, PARQUET]))
    if frames:
        representation.must_have_frames()
    shards = Shards(path, _TYPES, shard=Shard.read(shard))
    table = path.with_suffix(".csv") if path.suffix.lower() == NPY else path
    if before := _finished(table, shards):
        return before
    cut = Cut(sources, root, channel=channel, shard=shards.shard)
    total = sum(1 for _ in cut)
    options = {"representation": representation.sha256, "frames": frames, "channel": channel}
    options |= {"verb": "embed", "listed": cut.listed} if shards.shard else {}
    join = _join_npy if path != table else _join_parquet
    with shards.opened(options, lambda: join(shards, table, representation, frames)):
        rest = shards.rest(progress(cut, "embed", total), attrgetter("key"))
        plan = Plan(workers=workers, clips=total - shards.resumed, engine=engine)
        for piece, vectors in (_frames if frames else vectors_of_clips)(representation, rest, plan):
            clip = piece.clip
            read = clip if piece.end == piece.start else piece  # the whole clip where nothing of it was read
            row: Row = {"key": clip.utterance or clip.file, "file": clip.file, "error": piece.fault or None}
            row |= {
                "place": clip.place,
                "start": read.start,
                "end": read.end,
                "warning": clip.warning,
                **packed(vectors),
            }
            shards.add(clip.key, row, piece.last)
    return Outcome(shards.clips, shards.failed, shards.resumed, warned=shards.warned)


def vectors_of_clips(model: Representation, everything: Iterable[Clip], plan: Plan) -> Iterator[Computed]:
    """Yields each clip as one piece with its vector ``(D,)``; one that is not finite is a fault."""
    computed = in_order(everything, lambda pieces: model(*padded(pieces, model.device)), plan, model.device)
    for pieces in by_clip(computed):
        piece, vector = whole(pieces)
        if vector is not None and len(pieces) > 1 and model.embedder is not None and model.embedder.unit:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-9)
        yield _checked(model, piece, vector)


def packed(vectors: NDArray[Any] | None) -> Row:
    """Returns vectors ``(D,)`` or ``(T, D)`` as cells of a shard."""
    if vectors is None:
        return dict.fromkeys(VECTORS)
    count = len(vectors) if vectors.ndim == 2 else 1
    return dict(zip(VECTORS, (count, np.ascontiguousarray(vectors, FLOAT).tobytes()), strict=True))


def _frames(model: Representation, everything: Iterable[Clip], plan: Plan) -> Iterator[Computed]:
    """Yields pieces with their frames ``(T, D)``."""

    def compute(pieces: list[Piece]) -> list[NDArray[np.float32]]:
        values, counts = model.frames(*padded(pieces, model.device))
        # Copies, for a view would keep the padding of its whole batch.
        return [row[:count].numpy().copy() for row, count in zip(values.cpu(), counts.tolist(), strict=True)]

    held = _CHUNK_BYTES / (FLOAT.itemsize * model.frame_dim / model.hop_seconds)
    plan = replace(plan, clips=0, chunk_seconds=min(CHUNK_SECONDS, held))
    for piece, values in in_order(everything, compute, plan, model.device):
        yield _checked(model, piece, values)


def _checked(model: Representation, piece: Piece, vectors: NDArray[Any] | None) -> Computed:
    if vectors is None or np.isfinite(vectors).all():
        return piece, vectors
    return piece._replace(fault=f"{piece.clip.file}: {model.name} gives no finite vector"), None


def _join_npy(shards: Shards, table: Path, model: Representation, frames: bool) -> None:
    """Writes the array, and the table with the row of each vector."""

    def placed() -> Iterator[Row]:
        place = 0
        for chunk in shards.rows(*(name for name in _TYPES if name != "vectors")):
            for row in chunk:
                row |= {"row": place if row["count"] else None, "frames": row["count"]}
                row["hop_seconds"] = model.hop_seconds
                place += row["count"] or 0
                yield row

    write_npy(shards.output, model.frame_dim if frames else model.dim, shards)
    more = ["frames", "hop_seconds"] if frames else []
    write_lines(table, ["key", "file", "start", "end", "row", *more, "warning", "error"], placed())


def _join_parquet(shards: Shards, table: Path, model: Representation, frames: bool) -> None:
    """Writes the table with the vectors in it."""
    dim, column = (model.frame_dim, "frames") if frames else (model.dim, "vector")

    def unpacked() -> Iterator[Row]:
        for chunk in shards.rows(errors="replace"):
            for row in chunk:
                values = np.frombuffer(row["vectors"] or b"", FLOAT).reshape(-1, dim)
                row[column] = None if row["count"] is None else list(values) if frames else values[0]
                yield row

    # Named as in the file, so that its schema, read again, is the same.
    inner = pyarrow.list_(pyarrow.field("element", pyarrow.float32()), dim)
    types = {name: kind for name, kind in _TYPES.items() if name not in (*VECTORS, "warning", "error")}
    types |= {
        column: pyarrow.list_(pyarrow.field("element", inner)) if frames else inner,
        "warning": TEXT,
        "error": TEXT,
    }
    facts = {"encoder": model.name} | ({"hop_seconds": f"{model.hop_seconds:g}"} if frames else {})
    write_parquet(table, pyarrow.schema(types, metadata=facts), unpacked(), VECTOR_ROWS)


def _finished(table: Path, shards: Shards) -> Outcome | None:
    """Returns what an earlier run wrote, if its output is complete; refuses a file of something else."""
    files = {table, shards.output}
    there = {each for each in files if each.exists()}
    if not there or (shards.begun and (len(files) == 1 or not table.exists())):
        return None
    if missing := files - there:
        raise RunError(
            f"{there.pop()} is there already, and {missing.pop().name}, which goes with it, is not; remove "
            "it, or name another output"
        )
    return shards.finished(table, f"{table} is there already, and not of affetto embed; name another output")
