"""How long ``affetto --help`` takes, as a multiple of starting Python and doing nothing.

python benchmarks/startup.py
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from affetto.runs import write_text

NOTHING = [sys.executable, "-c", "pass"]
HELP = [sys.executable, "-m", "affetto", "--help"]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    pairs = [(seconds(NOTHING), seconds(HELP)) for _ in range(arguments.rounds)]
    nothing, asked = (statistics.median(column) for column in zip(*pairs, strict=True))
    text = (
        "# Start-up\n\n"
        f"`python benchmarks/startup.py`, {arguments.rounds} alternating rounds, medians.\n\n"
        "| command | milliseconds | multiple |\n|---|---:|---:|\n"
        f"| `python -c pass` | {1000 * nothing:.0f} | 1.0 |\n"
        f"| `affetto --help` | {1000 * asked:.0f} | {asked / nothing:.1f} |\n"
    )
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
