"""Vectors of a frozen Whisper at the length of the utterance, against the same in its windows of 30 s.

    python benchmarks/whisper.py --model FOLDER --audio FOLDER [--clips 40] [--rounds 3]

Recordings spread evenly over the folder are embedded by ``affetto embed`` at their lengths and filled up with
silence to 30 s, in alternating rounds; the medians of processor time are compared, which other work on the
machine disturbs less. Then all recordings of the folder are embedded once, at their lengths.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from affetto import embed
from affetto.audio import decode
from affetto.corpora.scanning import find_audio
from affetto.inference import load_representation
from affetto.models.representation import Representation
from affetto.parallel import cores
from affetto.runs import write_text


def spent(model: Representation, files: Sequence[Path]) -> tuple[float, float]:
    """Returns seconds of the processor, processes that were started counted, and of the clock."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = os.times(), time.perf_counter()
        outcome = embed(model, files, Path(folder) / "vectors.npy")
        took, after = time.perf_counter() - began, os.times()
    assert outcome.failed == 0, outcome
    return sum(after[:4]) - sum(before[:4]), took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a Whisper model")
    parser.add_argument("--audio", required=True, type=Path, help="folder of recordings")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    files = find_audio(given.audio)
    some = files[:: max(1, len(files) // given.clips)][: given.clips]
    models = [load_representation(given.model, settings=words) for words in ((), ("encoder.window=30",))]
    for model in models:
        spent(model, some[:2])  # what is done once
    taken = [[spent(model, some) for model in models] for _ in range(given.rounds)]
    short, filled = (statistics.median(each[place][0] for each in taken) for place in (0, 1))
    seconds = sum(len(decode(file)) for file in some) / 16_000
    processor, clock = spent(models[0], files)
    lines = [
        "# Whisper at the length of the utterance",
        "",
        f"`python benchmarks/whisper.py --model {Path(given.model).name} --audio {given.audio.name}`: "
        f"{cores()} cores, torch {torch.__version__}, transformers {transformers.__version__}. {len(some)} "
        f"recordings, {seconds / len(some):.1f} s on average; median of {given.rounds} alternating rounds.",
        "",
        "| | processor s | compared with | processor s | times as fast | bar |",
        "|---|---:|---|---:|---:|---|",
        f"| {len(some)} recordings | {short:.1f} | filled up to 30 s | {filled:.1f} | {filled / short:.1f} | "
        "at least 6 |",
        "",
        f"All {len(files)} recordings take {processor:.0f} s of the processor, {clock:.0f} s by the clock.",
    ]
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
