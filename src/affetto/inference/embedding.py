"""``embed``: vectors of any number of recordings, written as they come, in memory that does not grow."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affetto.errors import ConfigError, RunError, unknown
from affetto.inference.pipeline import CHUNK_SECONDS, Computed, Plan, by_clip, in_order, padded, whole
from affetto.inference.sources import Clip, Piece, Source, clips
from affetto.inference.writers import (
    FLOAT,
    VECTORS,
    Columns,
    Outcome,
    Shards,
    finished,
    write_array,
    write_parquet,
    write_table,
)
from affetto.models.representation import Representation
from affetto.progress import progress

NPY, PARQUET = ".npy", ".parquet"
_CHUNK_BYTES = 1 << 27  # of frames that are held at once; up to three chunks are in progress
_GROUP_ROWS = 512  # of a Parquet file


def embed(
    representation: Representation,
    sources: Source | Iterable[Source],
    output: str | Path,
    *,
    frames: bool = False,
    root: str | Path | None = None,
    workers: int | None = None,
) -> Outcome:
    """Writes the vectors of recordings, one each or one a frame.

    A recording longer than a minute goes through in parts of 30 s: its vector is the mean of theirs, weighted
    by their lengths; its frames make a row a part. An interrupted output is continued, and a finished one
    left alone, as by :func:`~affetto.inference.output.predict`.

    Args:
        representation: from :func:`~affetto.inference.loading.load_representation`.
        sources: recordings, folders, manifests.
        output: ``.npy`` for an array ``(N, D)`` and a ``.csv`` next to it, whose column ``row`` names the row
            (with frames: the first of how many); ``.parquet`` for one table with the vectors in it.
        frames: a vector for every frame of the encoder.
        root: the folder that a manifest's file names are relative to.
        workers: threads, or processes where there are many recordings; None for one a core.

    Raises:
        ConfigError: for another suffix, or frames of a representation without any.
        RunError: when the output was begun with other options, is being written, or half of it is there.
        AffettoError: when it cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() not in (NPY, PARQUET):
        raise ConfigError(unknown("output format", path.suffix or path.name, [NPY, PARQUET]))
    if frames:
        representation.must_have_frames()
    shards = Shards(path, ["key", "file", "start", "end", "count", VECTORS, "error"])
    table = path.with_suffix(".csv") if path.suffix.lower() == NPY else path
    if _is_finished(path, table, shards):
        return finished(table)
    sources = list(sources) if isinstance(sources, Iterator) else sources  # read twice
    total = sum(1 for _ in clips(sources, root))
    everything = progress(clips(sources, root), "embed", total)
    options = {"representation": representation.sha256, "frames": frames}
    with shards.opened(options, lambda: _join(shards, representation, table, frames)):
        rest = shards.rest(everything, attrgetter("name"))
        plan = Plan(workers=workers, clips=total - shards.resumed)
        for piece, vectors in (_frames if frames else vectors_of_clips)(representation, rest, plan):
            clip, fault = piece.clip, piece.fault or None
            row = {"key": clip.utterance or clip.file, "file": clip.file, "start": piece.start}
            row |= {"end": piece.end, "error": fault} | packed(vectors)
            if piece.end == piece.start:  # nothing of it was read
                row |= {"start": clip.start, "end": clip.end}
            shards.add(clip.name, row, piece.last)
    return Outcome(shards.clips, shards.failed, shards.resumed)


def vectors_of_clips(model: Representation, everything: Iterable[Clip], plan: Plan) -> Iterator[Computed]:
    """Yields each clip as one piece with its vector ``(D,)``; one that is not finite is a fault."""

    @torch.inference_mode()
    def compute(pieces: list[Piece]) -> torch.Tensor:
        return torch.as_tensor(model(*padded(pieces, model.device)))

    if model.device.type != "cpu":
        plan = replace(plan, clips=0)
    for pieces in by_clip(in_order(everything, compute, plan)):
        piece, vector = whole(pieces)
        if vector is not None and len(pieces) > 1 and model.embedder is not None and model.embedder.unit:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-9)
        yield _checked(model, piece, vector)


def packed(vectors: NDArray[Any] | None) -> dict[str, Any]:
    """Returns vectors ``(D,)`` or ``(T, D)`` as cells of a shard."""
    if vectors is None:
        return {"count": None, VECTORS: None}
    count = len(vectors) if vectors.ndim == 2 else 1
    return {"count": count, VECTORS: np.ascontiguousarray(vectors, FLOAT).tobytes()}


def _frames(model: Representation, everything: Iterable[Clip], plan: Plan) -> Iterator[Computed]:
    """Yields pieces with their frames ``(T, D)``."""

    @torch.inference_mode()
    def compute(pieces: list[Piece]) -> list[NDArray[np.float32]]:
        values, counts = model.frames(*padded(pieces, model.device))
        # Copies, for a view would keep the padding of its whole batch.
        return [row[:count].numpy().copy() for row, count in zip(values.cpu(), counts.tolist(), strict=True)]

    held = _CHUNK_BYTES / (FLOAT.itemsize * model.frame_dim / model.hop_seconds)
    plan = replace(plan, clips=0, chunk_seconds=min(CHUNK_SECONDS, held))
    for piece, values in in_order(everything, compute, plan):
        yield _checked(model, piece, values)


def _checked(model: Representation, piece: Piece, vectors: NDArray[Any] | None) -> Computed:
    if vectors is None or np.isfinite(vectors).all():
        return piece, vectors
    return replace(piece, fault=f"{piece.clip.file}: {model.name} gives no finite vector"), None


def _join(shards: Shards, model: Representation, table: Path, frames: bool) -> None:
    """Writes array and table, or a table with the vectors in it."""
    hop = f"{model.hop_seconds:g}"
    dim = model.frame_dim if frames else model.dim
    if table != shards.output:
        write_array(shards.output, dim, shards.chunks)
        more = ["frames", "hop_seconds"] if frames else []
        write_table(
            table,
            ["key", "file", "start", "end", "row", *more, "error"],
            _with_places(shards, model.hop_seconds),
        )
        return
    import pyarrow  # type: ignore[import-untyped]

    inner = pyarrow.list_(pyarrow.float32(), dim)
    text, name = pyarrow.string(), "frames" if frames else "vector"
    kinds = {"key": text, "file": text, "start": pyarrow.float64(), "end": pyarrow.float64()}
    kinds |= {name: pyarrow.list_(inner) if frames else inner, "error": text}
    facts = {"encoder": model.name} | ({"hop_seconds": hop} if frames else {})
    chunks = (
        chunk | {name: [_unpacked(cell, dim, frames) for cell in chunk[VECTORS]]} for chunk in shards.chunks()
    )
    write_parquet(table, pyarrow.schema(list(kinds.items()), metadata=facts), chunks, _GROUP_ROWS)


def _with_places(shards: Shards, hop_seconds: float) -> Iterator[Columns]:
    """Yields the rows of shards with their first row in the array."""
    place = 0
    for chunk in shards.chunks([name for name in shards.names if name != VECTORS]):
        counts = chunk["count"]
        places = place + np.cumsum([0, *(count or 0 for count in counts)])
        rows = [None if count is None else int(row) for row, count in zip(places, counts, strict=False)]
        place = int(places[-1])
        yield chunk | {"row": rows, "frames": counts, "hop_seconds": [hop_seconds] * len(rows)}


def _unpacked(cell: bytes | None, dim: int, frames: bool) -> Any:
    if cell is None:
        return None
    values = np.frombuffer(cell, FLOAT).reshape(-1, dim)
    return list(values) if frames else values[0]


def _is_finished(path: Path, table: Path, shards: Shards) -> bool:
    """Whether the output is complete.

    Raises:
        RunError: when it was not written by ``embed``, or is only half of it.
    """
    if shards.begun and not (table != path and table.exists()):
        return False
    there = [each for each in {table, path} if each.exists()]
    if not there:
        return False
    if len(there) == 1 and table != path:
        missing = path if there[0] == table else table
        raise RunError(
            f"{there[0]} is there already, and {missing.name}, which goes with it, is not; remove it, or "
            "name another output"
        )
    if not _has_errors(table):
        raise RunError(f"{table} is there already, and not of affetto embed; name another output")
    shards.remove()  # stopped between the last steps
    return True


def _has_errors(path: Path) -> bool:
    if path.suffix.lower() == PARQUET:
        import pyarrow.parquet  # type: ignore[import-untyped]

        try:
            return "error" in pyarrow.parquet.read_schema(path).names
        except (OSError, ValueError):
            return False
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        return "error" in next(csv.reader(lines), [])
