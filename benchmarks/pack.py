"""Packed shards against loose files, read as pretraining reads them: files a second, cold and warm.

    python benchmarks/pack.py crema-d.csv --work FOLDER [--files 7442] [--rounds 3]

The loose files are those of the manifest, and copies of them as WAV and as FLAC, decoded as the cache does.
The shards are FLAC: decoded as the cache does, and in batches of 128 as ``shuffle_buffer=2048`` reads them.
All are at 16 kHz with 16 bits in the end; nothing is written. Cold: the pages of the files are dropped
before, and, as root, what the kernel knows of their names. The rounds alternate.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from affetto.audio import decode, to_int16
from affetto.corpora import packing
from affetto.corpora.manifest import Manifest
from affetto.data import PackedWaveforms, ShardBatches
from affetto.data.batches import by_length
from affetto.data.caches import _waveforms
from affetto.members import member_of
from affetto.runs import write_text

BATCH, BUFFER = 128, 2048


def copied(manifest: Manifest, folder: Path, suffix: str) -> Manifest:
    """Writes every recording, mono at 16 kHz with 16 bits, to a file of its own."""
    files = [f"{row // 100:04d}/{row:07d}.{suffix}" for row in range(len(manifest))]
    for path, file in zip(manifest.paths, files, strict=True):
        target = folder / file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, to_int16(decode(path)), 16_000)
    return Manifest(manifest.table.assign(file=files), dict.fromkeys(manifest.corpora, folder))


def as_cached(manifest: Manifest) -> int:
    """Decodes every row in the order of the manifest, as the cache of waveforms does."""
    errors: dict[int, str] = {}
    count = sum(
        len(samples) > 0 for samples in _waveforms([(path, None, None) for path in manifest.paths], errors)
    )
    assert not errors
    return count


def as_streamed(manifest: Manifest) -> int:
    """Reads an epoch of batches through a buffer."""
    store = PackedWaveforms(manifest)
    shards = store.by_shard(np.arange(len(manifest)))
    batches = ShardBatches(shards, BATCH, BUFFER, lambda places, own: by_length(places, store.lengths, own))
    store.keep = batches.together
    count = sum(len(store.stack(batch)[1]) for batch in batches)
    assert not store.errors
    return count


def only_read(files: Iterable[Path]) -> int:
    """Reads the bytes of files and decodes nothing."""
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.read(4 << 20):
                pass
    return 0


def drop(files: Iterable[Path]) -> None:
    """Drops the pages of files from memory, and what the kernel knows of names where that is allowed."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("2")


def main() -> None:
    """Prints the table and writes it next to this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for the copies and the shards")
    parser.add_argument("--files", type=int, default=7442, help="how many rows, from the first on")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    loose = Manifest.read(given.manifest)
    loose = loose.where(loose.keys[: given.files])
    wav, flac = (copied(loose, given.work / suffix, suffix) for suffix in ("wav", "flac"))
    packing.pack(loose, given.work / "shards")
    packed = Manifest.read(given.work / "shards" / packing.PACKED)
    tars = sorted({Path(place.tar) for place in map(member_of, packed.paths) if place})
    kind = f"loose, as the corpus is ({loose.paths[0].suffix[1:].title()})"
    runs: dict[str, tuple[Iterable[Path], Callable[[], int]]] = {
        kind: (loose.paths, partial(as_cached, loose)),
        "loose WAV": (wav.paths, partial(as_cached, wav)),
        "loose FLAC": (flac.paths, partial(as_cached, flac)),
        "packed FLAC, in the order of rows": (tars, partial(as_cached, packed)),
        "packed FLAC, shuffled by a buffer": (tars, partial(as_streamed, packed)),
        "loose FLAC, bytes alone": (flac.paths, partial(only_read, flac.paths)),
        "packed FLAC, bytes alone": (tars, partial(only_read, tars)),
    }
    wall: dict[tuple[str, str], list[float]] = defaultdict(list)
    processor: dict[str, list[float]] = defaultdict(list)
    for _ in range(given.rounds):
        for name, (files, run) in runs.items():
            for state in ("cold", "warm"):
                if state == "cold":
                    drop(files)
                began, busy = time.perf_counter(), time.process_time()
                run()
                wall[name, state].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - busy)
    speed = {key: len(loose) / statistics.median(taken) for key, taken in wall.items()}
    heads = ("read", "cold, files/s", "warm, files/s", "cold, over the first", "processor, ms a file")
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---:|---:|---:|"]
    for name in runs:
        ratio = speed[name, "cold"] / speed[kind, "cold"]
        each = 1000 * statistics.median(processor[name]) / len(loose)
        speeds = f"{speed[name, 'cold']:,.0f} | {speed[name, 'warm']:,.0f}"
        lines.append(f"| {name} | {speeds} | {ratio:.2f} | {each:.2f} |")
    cores = len(os.sched_getaffinity(0))
    about = f"{len(loose):,} recordings, {cores} cores, {given.rounds} rounds, medians"
    text = "\n".join([about, "", *lines, ""])
    print(text)
    write_text(given.work / "pack.md", text)


if __name__ == "__main__":
    main()
