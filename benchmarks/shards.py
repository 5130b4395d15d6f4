"""Shards and Ray against one run: time, and whether the bytes are the same.

Everything runs on processors 0 and 1. Ray and the plain run are compared at the same time, since the machine
may have other work.

    python benchmarks/shards.py CREMA-D.csv FOLDER --files 20000 --what shards ray
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from affetto.corpora.manifest import Manifest


def main() -> None:
    """Prints the seconds of each command and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--model", default="functionals")
    parser.add_argument("--what", nargs="+", default=["shards", "ray", "kill"])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    table = given.folder / "table.csv"
    many(given.manifest, given.files, table)
    for what in given.what:
        {"shards": shards, "ray": ray, "kill": kill}[what](table, given.folder, given.model)


def many(manifest: Path, count: int, out: Path) -> None:
    """Writes a manifest with so many rows: the recordings, again and again."""
    read = Manifest.read(manifest)
    rows = read.table.iloc[np.arange(count) % len(read)].reset_index(drop=True)
    Manifest(rows.assign(key=[f"{n:07d}" for n in range(count)]), read.roots).write(out)


def command(table: Path, out: Path, model: str, *more: str) -> list[str]:
    """Returns a command that embeds or predicts."""
    verb = ["embed", "-e", model] if model == "functionals" else ["predict", "-m", model]
    return [sys.executable, "-m", "affetto", *verb, str(table), "-o", str(out), *more]


def timed(commands: list[list[str]], cores: list[set[int]]) -> list[float]:
    """Runs commands at once, each on its processors; returns the seconds that each took."""
    start = time.monotonic()

    def run(words: list[str], own: set[int]) -> float:
        done = subprocess.run(
            words, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, own)
        )
        assert done.returncode in (0, 1), words
        return time.monotonic() - start

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(run, commands, cores))


def shards(table: Path, folder: Path, model: str) -> None:
    """One run on one processor against two shards on two and the merge."""
    suffix = "parquet" if model == "functionals" else "csv"
    whole, merged, *parts = (folder / f"{name}.{suffix}" for name in ("whole", "merged", "1", "2"))
    for path in (whole, merged, *parts):
        path.unlink(missing_ok=True)
    both = [command(table, part, model, "--shard", f"{n}/2") for n, part in enumerate(parts, 1)]
    two = max(timed(both, [{0}, {1}]))
    merge = [sys.executable, "-m", "affetto", "merge", *map(str, parts), "-o", str(merged)]
    (joined,) = timed([merge], [{0, 1}])
    (one,) = timed([command(table, whole, model)], [{0}])
    print(f"{model}: one run on one processor {one:.1f} s, two shards {two:.1f} s, merge {joined:.1f} s")
    same = whole.read_bytes() == merged.read_bytes()
    print(f"  of linear: {one / 2 / (two + joined):.3f}; equal bytes: {same}", flush=True)


def ray(table: Path, folder: Path, model: str) -> None:
    """The plain run, which has two processes, against two workers of Ray, both at once."""
    suffix = "npy" if model == "functionals" else "csv"
    outputs = [folder / f"{way}.{suffix}" for way in ("plain", "ray")]
    for path in outputs:
        path.unlink(missing_ok=True)
        path.with_suffix(".csv").unlink(missing_ok=True)
    # Else the plain run, which is there at the same time, would go first.
    os.environ.update({"RAY_worker_niceness": "0"})
    engine = ("--engine", "ray", "--workers", "2")
    commands = [command(table, path, model, *more) for path, more in zip(outputs, ((), engine), strict=True)]
    plain, other = timed(commands, [{0, 1}, {0, 1}])
    print(f"{model}: plain {plain:.1f} s, Ray {other:.1f} s, at once")
    same = outputs[0].read_bytes() == outputs[1].read_bytes()
    print(f"  Ray against plain: {plain / other:.3f}; equal bytes: {same}", flush=True)


def kill(table: Path, folder: Path, model: str) -> None:
    """Kills the command and everything of Ray below it half way, and runs it again."""
    suffix = "npy" if model == "functionals" else "csv"
    out = folder / f"killed.{suffix}"
    for path in (out, out.with_suffix(".csv")):
        path.unlink(missing_ok=True)
    shutil.rmtree(f"{out}.part", ignore_errors=True)
    words = command(table, out, model, "--engine", "ray", "--workers", "2")
    running = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while len(list(Path(f"{out}.part").glob("part-*.parquet"))) < 20 and running.poll() is None:
        time.sleep(0.2)
    for process in [*below(running.pid), running.pid]:
        os.kill(process, signal.SIGKILL)
    running.wait()
    kept = len(list(Path(f"{out}.part").glob("part-*.parquet")))
    assert subprocess.run(words, stderr=subprocess.DEVNULL).returncode in (0, 1)
    table_of, plain = out.with_suffix(".csv"), folder / f"plain.{suffix}"
    keys = pd.read_csv(table_of, dtype=str)["key" if suffix == "npy" else "file"]
    listed = pd.read_csv(table, dtype=str)["key" if suffix == "npy" else "file"]
    print(f"killed with {kept} pieces written: every row once: {sorted(keys) == sorted(listed)}")
    print(f"  equal bytes: {out.read_bytes() == plain.read_bytes()}", flush=True)


def below(process: int) -> list[int]:
    """Returns the processes that a process started, and those that they did."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [child for child, parent in pairs if parent == process]
    return [each for child in found for each in (*below(child), child)]


if __name__ == "__main__":
    main()
