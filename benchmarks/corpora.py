"""Scanning very many recordings beside reading their headers, and validating on all cores beside one.

    python benchmarks/corpora.py [--files 100000] [--rounds 3]

Scan: made-up recordings in VoxCeleb's layout, 50 milliseconds each, beside a walk through the folders that
opens each file once with soundfile. Both run in this process, in alternation; the medians of wall time are
compared. Validate: recordings of three seconds, decoded and hashed, in a process that may use one core and in
one that may use all.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from affetto.corpora import scan
from affetto.runs import write_text

RATE = 16_000
VIDEOS, CLIPS = 10, 10  # a speaker, a video
_VALIDATE = """
import os, sys, time
os.sched_setaffinity(0, {cores})
from affetto.corpora.manifest import Manifest
manifest = Manifest.read({path!r})
began = time.perf_counter()
assert manifest.problems() == []
print(time.perf_counter() - began)
"""


def voices(root: Path, files: int, seconds: float) -> None:
    """Writes different noise into every recording, so that no two are duplicates."""
    generator = np.random.default_rng(0)
    noise = generator.integers(-8000, 8000, round(RATE * seconds) + files, dtype=np.int16)
    for number in range(files):
        speaker, rest = divmod(number, VIDEOS * CLIPS)
        video, clip = divmod(rest, CLIPS)
        path = root / "wav" / f"id{10001 + speaker}" / f"video{video:06d}" / f"{clip + 1:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise[number : number + round(RATE * seconds)], RATE)


def floor(root: Path) -> int:
    """Lists all files, and reads each header once."""
    count = 0
    for parent, _, names in os.walk(root):
        for name in names:
            with soundfile.SoundFile(os.path.join(parent, name)) as file:
                count += file.frames > 0
    return count


def alternated(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Returns the median of wall seconds of each, after one round that does not count."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for run, taken in zip(runs, spent, strict=True):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken[1:]) for taken in spent]


def validating(manifest: Path, cores: set[int]) -> float:
    """Returns wall seconds of validating in a process of its own."""
    code = _VALIDATE.format(cores=cores, path=str(manifest))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    every = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        many, long = Path(folder) / "many", Path(folder) / "long"
        voices(many, given.files, 0.05)
        ours, bare = alternated(given.rounds, lambda: scan("voxceleb1", many), lambda: floor(many))
        voices(long, 4_000, 3.0)
        scan("voxceleb1", long).write(Path(folder) / "long.csv")
        one: list[float] = []
        all_of_them: list[float] = []
        for _ in range(given.rounds):
            one.append(validating(Path(folder) / "long.csv", {min(every)}))
            all_of_them.append(validating(Path(folder) / "long.csv", every))
    single, several = statistics.median(one), statistics.median(all_of_them)
    rows = [
        ("scan", f"list {given.files:,} files, open each once", bare, ours, ours / bare, "time, bar 2"),
        (
            "validate",
            f"4,000 recordings on one core, then {len(every)}",
            single,
            several,
            single / several,
            "speed, bar 1.7",
        ),
    ]
    lines = [
        "# Scanning and validating",
        "",
        f"`python benchmarks/corpora.py --files {given.files} --rounds {given.rounds}`, "
        "medians of wall time.",
        "",
        "| verb | beside | its seconds | ours | ratio | of |",
        "|---|---|---:|---:|---:|---|",
        *(f"| {v} | {b} | {t:.1f} | {o:.1f} | {r:.2f} | {w} |" for v, b, t, o, r, w in rows),
    ]
    page = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), page)
    print(page)


if __name__ == "__main__":
    main()
