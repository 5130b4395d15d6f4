"""What every verb costs at 10,000, 100,000 and 1,000,000 rows: processor time and memory of the processes.

    python benchmarks/million.py --manifest crema-d.csv --model FOLDER

The rows are parts of the manifest's recordings, 0.6 to 1.2 s each, drawn with seed 0; every pass over all
recordings counts as speakers of its own. Speaker embeddings are made up to ``--embedded`` rows, since GE2E
takes 5 ms a row. Clusters are of drawn vectors: speakers of 20 utterances, 256 numbers each. Finished steps
are lines of ``rows.jsonl`` in ``--out`` and are not run again. Memory is that of the largest process. What is
written by hand on the page, under the first table and at its end, stays there.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from affetto.corpora.manifest import Manifest
from affetto.parallel import cores
from affetto.runs import write_json, write_text

UTTERANCES, DIM = 20, 256
SHORTEST, LONGEST = 0.6, 1.2  # seconds of a part
MEAN_SECONDS = (SHORTEST + LONGEST) / 2
HOURS = 10_000_000
SOUND = ("manifest validate", "predict", "annotate speakers")  # verbs that decode


def parts(manifest: Manifest, count: int, path: Path) -> None:
    """Writes a table of parts of the recordings."""
    generator = np.random.default_rng(0)
    seconds = np.array(pd.Series(manifest.paths).map(_seconds))
    turn, row = np.divmod(np.arange(count), len(manifest))
    length = generator.uniform(SHORTEST, LONGEST, count)
    start = generator.uniform(0, 1, count) * (seconds[row] - length - 0.01).clip(0)
    own = manifest.table.iloc[row].reset_index(drop=True)
    table = own[["file", "emotion", "corpus"]].assign(
        key=[f"u{number:07d}" for number in range(count)],
        start=start.round(3),
        end=(start + length).round(3),
        speaker=[f"{name}-{number}" for name, number in zip(own["speaker"], turn, strict=True)],
    )
    table.to_csv(path, index=False)
    write_json(path.with_suffix(".roots.json"), {name: str(root) for name, root in manifest.roots.items()})


def _seconds(path: Path) -> float:
    from affetto.audio import read_info

    return read_info(path).duration_seconds


def voices(count: int, folder: Path) -> Path:
    """Writes vectors of speakers, each with six kinds of utterances, and a manifest that names them."""
    if (folder / "voices.csv").exists():
        return folder / "voices.csv"
    folder.mkdir(exist_ok=True)
    generator, size = np.random.default_rng(0), (count // UTTERANCES, UTTERANCES, DIM)
    array = np.lib.format.open_memmap(folder / "voice.npy", "w+", np.float32, (size[0] * UTTERANCES, DIM))
    for begin in range(0, size[0], 1000):
        some = min(1000, size[0] - begin)
        kinds = 0.5 * generator.standard_normal((some, 6, DIM))
        kind = generator.integers(0, 6, (some, UTTERANCES, 1))
        own = np.take_along_axis(kinds, kind, 1) + 0.4 * generator.standard_normal((some, *size[1:]))
        own += generator.standard_normal((some, 1, DIM))
        array[begin * UTTERANCES : (begin + some) * UTTERANCES] = own.reshape(-1, DIM)
    array.flush()
    facts = {"encoder": "drawn", "encoder_sha256": "drawn", "labels_used": False, "hashes": []}
    write_json(folder / "voice.json", facts | {"speakers_seen": {"with_labels": [], "without_labels": []}})
    lines = (f"u{n},{n}.wav,{n // UTTERANCES},voice.npy#{n}\n" for n in range(size[0] * UTTERANCES))
    write_text(folder / "voices.csv", "key,file,speaker,voice\n" + "".join(lines))
    return folder / "voices.csv"


def steps(manifest: Manifest, count: int, options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Yields each verb with its command, and makes what it needs."""
    out: Path = options.out
    table, scanned = out / f"parts-{count}.csv", out / f"scanned-{count}.csv"
    if not table.exists():
        parts(manifest, count, table)
    root = str(next(iter(manifest.roots.values())))
    yield "scan", ["scan", "table", str(table), "-o", str(scanned), "--audio-root", root]
    yield "manifest describe", ["manifest", "describe", str(table)]
    yield "manifest validate", ["manifest", "validate", str(table)]
    predicted = str(out / f"predicted-{count}.csv")
    yield "predict", ["predict", str(table), "-m", str(options.model), "-o", predicted]
    if count <= options.embedded:
        yield "annotate speakers", ["annotate", "speakers", str(table), "-o", str(out / f"voices-{count}")]
    drawn = str(voices(count, out / f"drawn-{count}"))
    clusters = ["annotate", "clusters", drawn, "--embedding", "voice", "-o", str(out / f"clusters-{count}")]
    yield "annotate clusters", clusters


def measure(command: list[str]) -> dict[str, float]:
    """Runs a command, and returns what it cost."""
    began = time.perf_counter()
    os.posix_spawn(sys.executable, [sys.executable, "-m", "affetto", *command], os.environ)
    _, status, usage = os.wait3(0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):  # 1: some rows have a problem
        raise SystemExit(f"ended with an error: {command}")
    return {
        "wall": round(time.perf_counter() - began, 1),
        "processor": round(usage.ru_utime + usage.ru_stime, 1),
        "memory": round(usage.ru_maxrss / 1024),
    }


def page(rows: list[dict[str, object]], sha256: str, before: str) -> str:
    """Returns the tables as Markdown, with what stands below each of them on the page ``before``."""
    found = pd.DataFrame(rows)
    notes = [text.rstrip() for text in re.findall(r"^\|.*\n\n((?:(?!#|\|).*\n)*)", before, re.MULTILINE)]
    notes += [""] * (2 - len(notes))
    lines = [
        "# A million rows",
        "",
        f"`python benchmarks/million.py --manifest crema-d.csv --model FOLDER`, {cores()} cores; "
        f"recordings of a manifest with hash {sha256[:12]}; a recogniser of `functionals`. "
        "Processor time is of all processes, memory that of the largest.",
        "",
        "| verb | rows | processor, s | ms a row | against 10,000 | memory, MiB | against 10,000 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for verb, own in found.groupby("verb", sort=False):
        first = own.iloc[0]
        for row in own.itertuples():
            each, base = 1000 * row.processor / row.rows, 1000 * first.processor / first.rows
            cells = [verb, f"{row.rows:,}", f"{row.processor:,.0f}", f"{each:.2f}", f"{each / base:.2f}"]
            lines.append(
                "| " + " | ".join([*cells, f"{row.memory:,}", f"{row.memory / first.memory:.2f}"]) + " |"
            )
    below = [["", note] if note else [] for note in notes]
    return "\n".join([*lines, *below[0], *paper(found), *below[1]]) + "\n"


def paper(found: pd.DataFrame) -> list[str]:
    """Returns what ten million hours would take, from the cost of a second of sound at most rows."""
    lines = [
        "",
        "## Ten million hours, on paper",
        "",
        f"The cost of a second of sound above, times {HOURS:,} hours; too high by what a part costs "
        "whatever its length. Every shard is a job of its own: 3,600 of a million parts of 10 s, say.",
        "",
        "| verb | hours of a core | machines of 64 cores, a week |",
        "|---|---:|---:|",
    ]
    for verb in SOUND:
        own = found[found["verb"] == verb]
        if len(own):
            last = own.iloc[-1]
            needed = last.processor / (last.rows * MEAN_SECONDS) * HOURS
            lines.append(f"| {verb} | {needed:,.0f} | {needed / (64 * 7 * 24):,.1f} |")
    return lines


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of a recogniser")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--embedded", type=int, default=100_000, help="most rows of annotate speakers")
    parser.add_argument("--out", type=Path, default=Path("runs/million"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    manifest, log = Manifest.read(options.manifest), options.out / "rows.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    for count in options.rows:
        for verb, command in steps(manifest, count, options):
            if not any((row["verb"], row["rows"]) == (verb, count) for row in rows):
                rows.append({"verb": verb, "rows": count, **measure(command)})
                with open(log, "a", encoding="utf-8") as lines:
                    lines.write(json.dumps(rows[-1]) + "\n")
    written = Path(__file__).with_suffix(".md")
    text = page(rows, manifest.sha256, written.read_text(encoding="utf-8") if written.exists() else "")
    print(text)
    write_text(written, text)


if __name__ == "__main__":
    main()
