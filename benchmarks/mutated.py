"""Whether damaged recordings end a ``predict``, and what memory they take: one run over a folder of them.

    python benchmarks/mutated.py --files 10000
    python benchmarks/mutated.py --files 10000 --folder DIR --seed 1

Recordings of every format that tests/fuzz makes are damaged at random and predicted in one run, and as many
whole ones in another. Memory is that of all processes of a run together (proportional set size), at its most.
"""

import argparse
import csv
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))
from changes import changed, chosen_changes, recordings


def write(folder: Path, count: int, chance: random.Random | None) -> None:
    """Writes recordings, damaged where there is ``chance``."""
    seeds = sorted(recordings().items())
    for number in range(count):
        name, content = seeds[number % len(seeds)]
        if chance:
            content = changed(content, chosen_changes(chance), chance.choice(seeds)[1])
        file = folder / f"{number // 1000:03d}" / f"{number:06d}{Path(name).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def memory_mib(process: int) -> float:
    """Returns what a process and its children hold, shared pages counted once."""
    total, waiting = 0, [process]
    while waiting:
        each = waiting.pop()
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total / 1024


def predict(folder: Path, output: Path) -> tuple[float, float, Counter[str]]:
    """Predicts a folder; returns the most memory, the seconds, and how many rows there are of which kind."""
    command = [sys.executable, "-m", "affetto", "predict", str(folder), "-o", str(output)]
    began, most = time.perf_counter(), 0.0
    with open(output.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
        while process.poll() is None:
            most = max(most, memory_mib(process.pid))
            time.sleep(0.05)
    seconds = time.perf_counter() - began
    if process.returncode not in (0, 1):
        end = output.with_suffix(".log").read_text(errors="replace")[-3000:]
        raise SystemExit(f"predict ended with {process.returncode}:\n{end}")
    with open(output, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kinds = Counter(  # without the numbers
        re.split(r"[(;,]", row["error"].partition(": ")[2])[0].strip() if row["error"] else "answered"
        for row in rows
    )
    return most, seconds, kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the recordings are kept; a temporary one without")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        for name, chance in (("whole", None), ("damaged", random.Random(given.seed))):
            write(folder / name, given.files, chance)
        print("| recordings | rows | answered | errors | memory at most, MiB | seconds |")
        print("|---|---:|---:|---:|---:|---:|")
        memory = {}
        for name in ("whole", "damaged"):
            memory[name], seconds, kinds = predict(folder / name, folder / f"{name}.csv")
            rows, answered = kinds.total(), kinds["answered"]
            numbers = (rows, answered, rows - answered, memory[name], seconds)
            print(f"| {name} |", *(f"{number:,.0f} |" for number in numbers), flush=True)
            assert rows == given.files, f"{given.files - rows} recordings have no row"
        print(f"\nBeyond the usual: {memory['damaged'] - memory['whole']:,.0f} MiB (bar: 600).")
        print("\nThe most frequent errors:\n")
        print(
            "\n".join(f"- {count:,}: {kind}" for kind, count in kinds.most_common(12) if kind != "answered")
        )


if __name__ == "__main__":
    main()
