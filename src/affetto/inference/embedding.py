"""``embed``: vectors of any number of recordings, written as they come, in memory that does not grow."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affetto.errors import ConfigError, RunError, unknown
from affetto.inference.output import Outcome, finished
from affetto.inference.pipeline import CHUNK_SECONDS, in_order, stacked
from affetto.inference.rows import Row
from affetto.inference.sources import Clip, Piece, Source, clips
from affetto.inference.unfinished_vectors import NPY, PARQUET, UnfinishedVectors
from affetto.models.representation import Representation
from affetto.progress import progress

_CHUNK_BYTES = 1 << 27  # of frames that are held at once; up to three chunks are under way

Found = tuple[Clip, Row, NDArray[np.float32] | None, bool]
"""A clip, its row, its vectors ``(T, D)`` or None where there are none, and whether it is through."""


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

    A recording longer than a minute goes through in parts of 30 s: its vector is the mean of theirs, each
    counted by its length; its frames make a row a part. An interrupted output is taken up again as
    :func:`~affetto.inference.output.predict` does it, and a finished one is left alone.

    Args:
        representation: from :func:`~affetto.inference.loading.load_representation`.
        sources: recordings, folders, manifests.
        output: ``.npy`` for an array ``(N, D)`` and a ``.csv`` beside it, whose column ``row`` says which row
            (in frames: the first of how many) is whose; ``.parquet`` for one table with the vectors in it.
        frames: a vector for every frame of the encoder.
        root: the folder that a manifest's file names are relative to.
        workers: threads, or processes where there are many recordings; None for one a core.

    Returns:
        How many recordings there are, and how many of them have an ``error`` in place of a vector.

    Raises:
        ConfigError: for another suffix, or frames of what has none.
        RunError: when the output was begun with something else, is being written, or half of it is there.
        AffettoError: when it cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() not in (NPY, PARQUET):
        raise ConfigError(unknown("output format", path.suffix or path.name, [NPY, PARQUET]))
    if frames:
        representation.must_have_frames()
    hop = representation.hop_seconds
    facts = {"encoder": representation.name} | ({"hop_seconds": f"{hop:g}"} if frames else {})
    dim = representation.frame_dim if frames else representation.dim
    table = UnfinishedVectors(path, dim, frames, facts)
    if _is_finished(table):
        return finished(table.path)
    sources = list(sources) if isinstance(sources, Iterator) else sources  # gone through twice
    total = sum(1 for _ in clips(sources, root))
    everything = progress(clips(sources, root), "embed", total)
    with table.opened({"representation": representation.sha256, "frames": frames}):
        rest = table.rest(everything)
        count = total if _device(representation).type == "cpu" else 0
        found = (
            _of_frames(representation, rest, workers)
            if frames
            else _of_clips(representation, rest, workers, count)
        )
        for clip, row, vectors, last in found:
            row |= {"key": clip.utterance or clip.file, "file": clip.file}
            if frames and table.beside:
                row["hop_seconds"] = hop
            if vectors is not None and not np.isfinite(vectors).all():
                row["error"], vectors = f"{clip.file}: {representation.name} gives no finite vector", None
            table.append(clip, row, vectors, last)
    table.finish()
    return Outcome(table.clips, table.failed, table.resumed)


def _of_clips(
    model: Representation, everything: Iterable[Clip], workers: int | None, count: int
) -> Iterator[Found]:
    @torch.inference_mode()
    def compute(pieces: list[Piece]) -> torch.Tensor:
        return torch.as_tensor(model(*_on(model, pieces)))

    parts: list[tuple[Piece, NDArray[np.float32]]] = []
    for piece, vector in in_order(everything, compute, workers=workers, count=count):
        if vector is None:  # a recording that breaks off has no vector at all
            parts.clear()
            clip = piece.clip
            yield clip, {"start": clip.start, "end": clip.end, "error": piece.fault}, None, True
            continue
        parts.append((piece, vector))
        if piece.last:
            whole = vector if len(parts) == 1 else _mean(model, parts)
            yield piece.clip, {"start": parts[0][0].start, "end": piece.end}, whole[None], True
            parts.clear()


def _mean(model: Representation, parts: list[tuple[Piece, NDArray[np.float32]]]) -> NDArray[np.float32]:
    weights = [piece.end - piece.start for piece, _ in parts]
    mean = np.average(np.stack([vector for _, vector in parts]), axis=0, weights=weights)
    if model.embedder is not None and model.embedder.unit:
        mean = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return mean.astype(np.float32)


def _of_frames(model: Representation, everything: Iterable[Clip], workers: int | None) -> Iterator[Found]:
    @torch.inference_mode()
    def compute(pieces: list[Piece]) -> list[NDArray[np.float32]]:
        values, counts = model.frames(*_on(model, pieces))
        # Copies, for a view would keep the padding of its whole batch.
        return [row[:count].numpy().copy() for row, count in zip(values.cpu(), counts.tolist(), strict=True)]

    held = _CHUNK_BYTES / (4 * model.frame_dim / model.hop_seconds)
    seconds = min(CHUNK_SECONDS, held)
    for piece, values in in_order(everything, compute, workers=workers, chunk_seconds=seconds):
        row: Row = {"start": piece.start, "end": piece.end}
        if values is None:
            row = {"start": piece.clip.start, "end": piece.clip.end, "error": piece.fault}
        yield piece.clip, row, values, piece.last


def _on(model: Representation, pieces: list[Piece]) -> tuple[torch.Tensor, torch.Tensor]:
    device = _device(model)
    waveforms, lengths = stacked(pieces)
    return waveforms.to(device), lengths.to(device)


def _device(model: Representation) -> torch.device:
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))


def _is_finished(table: UnfinishedVectors) -> bool:
    """Whether the output is complete.

    Raises:
        RunError: when what is there was not written by ``embed``, or is only half of it.
    """
    if table.part.exists() and not (table.beside and table.path.exists()):
        return False
    there = [path for path in {table.path, table.array} if path.exists()]
    if not there:
        return False
    if len(there) == 1 and table.beside:
        missing = table.array if there[0] == table.path else table.path
        raise RunError(
            f"{there[0]} is there already, and {missing.name}, which goes with it, is not; remove it, or "
            "name another output"
        )
    if not _has_errors(table.path):
        raise RunError(f"{table.path} is there already, and not of affetto embed; name another output")
    for rest in (table.log, table.values):
        rest.unlink(missing_ok=True)  # stopped between the last steps
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
