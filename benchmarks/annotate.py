"""How fast ``annotate speakers --encoder ge2e`` is beside Resemblyzer itself, and how close to the floor.

    python benchmarks/annotate.py --audio FOLDER

Both embed the same recordings, turn by turn, and the median of the turns' ratios counts. First from decoded
waveforms, of Resemblyzer's own volume: it takes them one by one with as many threads as torch gives it; ours
go through in batches, one thread a core. Then from files: decoding and one by one there, the whole verb here,
with hashes and the run folder. Resemblyzer's voice detector is left out on both sides.

The floor is the multiplications of the three LSTM layers, 0.43 GFLOP for each window of 1.6 s, at the speed
at which the same cores multiply large matrices, measured in each turn.
"""

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from affetto.annotation.run_speakers import MANIFEST, SpeakerSettings, annotate_speakers
from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora import toy
from affetto.corpora.arrays import read_vectors
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import find_audio
from affetto.inference.embedding import vectors_of_clips
from affetto.inference.loading import load_speaker
from affetto.inference.pipeline import Plan
from affetto.inference.sources import Clip, Windows
from affetto.models.representation import Representation
from affetto.runs import write_text

Waveforms = list[NDArray[np.float32]]
WINDOW_FLOP = 2 * 160 * 4 * 256 * ((40 + 256) + 2 * (256 + 256))
SIDE = 1024  # of the matrices that are multiplied for the floor


def resemblyzer() -> Any:
    """Imports the package without its voice detector, whose import needs an old setuptools."""
    sys.modules.setdefault("webrtcvad", types.ModuleType("webrtcvad"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import resemblyzer
    return resemblyzer


def in_batches(model: Representation, waveforms: Waveforms) -> NDArray[np.float32]:
    """Embeds waveforms as the verb does, without reading and writing."""
    assert model.embedder is not None
    plan = Plan(Windows(longest=math.inf), batch_seconds=model.embedder.batch_seconds)
    clips = [Clip("", (waveform, SAMPLE_RATE)) for waveform in waveforms]
    return np.stack([vector for _, vector in vectors_of_clips(model, clips, plan) if vector is not None])


def multiplications(cores: int, repeats: int = 60) -> float:
    """Floating-point operations a second of large matrix products, one on each core."""
    pairs = [torch.randn(2, SIDE, SIDE) for _ in range(cores)]

    def multiply(pair: torch.Tensor) -> None:
        for _ in range(repeats):
            torch.mm(pair[0], pair[1])

    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        began = time.perf_counter()
        list(threads.map(multiply, pairs))
        return 2 * SIDE**3 * repeats * cores / (time.perf_counter() - began)


class Turn(NamedTuple):
    """One turn of one contestant: its vectors, wall and processor seconds."""

    vectors: NDArray[np.float32]
    wall: float
    processor: float


def timed(work: Callable[[], NDArray[np.float32]]) -> Turn:
    """Returns what the work gives, and its wall and processor seconds."""
    began, worked = time.perf_counter(), time.process_time()
    vectors = work()
    return Turn(vectors, time.perf_counter() - began, time.process_time() - worked)


def closeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The lowest cosine of a row with its counterpart."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, help="folder of recordings; the toy corpus by default")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    package = resemblyzer()
    theirs, ours = package.VoiceEncoder("cpu", verbose=False), load_speaker("ge2e")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if arguments.audio is None:
            toy.write(scratch / "toy", speakers=8, sentences=4, takes=2)
        root = arguments.audio or scratch / "toy"
        paths = find_audio(root)
        paths = paths[:: max(1, len(paths) // arguments.files)][: arguments.files]
        table = pd.DataFrame({"file": [path.relative_to(root).as_posix() for path in paths]})
        manifest = Manifest(table, {"": root})
        raised = [louder(package, decode(path)) for path in paths]

        def verb() -> NDArray[np.float32]:
            shutil.rmtree(scratch / "run", ignore_errors=True)
            run = annotate_speakers(manifest, SpeakerSettings(), scratch / "run")
            return read_vectors(Manifest.read(run / MANIFEST, root))

        contests: dict[str, tuple[Callable[[], NDArray[np.float32]], Callable[[], NDArray[np.float32]]]] = {
            "decoded waveforms": (
                lambda: np.stack([theirs.embed_utterance(each) for each in raised]),
                lambda: in_batches(ours, raised),
            ),
            "files": (
                lambda: np.stack([theirs.embed_utterance(louder(package, decode(path))) for path in paths]),
                verb,
            ),
        }
        for pair in contests.values():
            for work in pair:
                work()
        rounds, speeds = [], []
        for _ in range(arguments.rounds):
            speeds.append(multiplications(cores))
            rounds.append({kind: [timed(work) for work in pair] for kind, pair in contests.items()})
    windows = sum(len(theirs.compute_partial_slices(len(each), 1.3, 0.75)[0]) for each in raised)
    seconds = sum(map(len, raised)) / 16_000
    source = "recordings of --audio" if arguments.audio else "files of the toy corpus"
    lines = [
        "# Annotate\n",
        f"`python benchmarks/annotate.py --files {len(paths)} --rounds {arguments.rounds}`, {cores} cores, "
        f"{torch.get_num_threads()} torch threads for Resemblyzer, medians of alternating turns; "
        f"{len(paths)} {source}, {seconds / len(paths):.1f} s each on average, {windows} windows; "
        f"torch {torch.__version__}.\n",
        "| from | utterances a second, Resemblyzer | affetto | ratio | ratio of processor time | "
        "lowest cosine |\n|---|---:|---:|---:|---:|---:|",
    ]
    for kind in contests:
        turns = [turn[kind] for turn in rounds]
        rate = [len(paths) / statistics.median(turn[side].wall for turn in turns) for side in (0, 1)]
        wall = statistics.median(first.wall / second.wall for first, second in turns)
        processor = statistics.median(first.processor / second.processor for first, second in turns)
        cosine = min(closeness(first.vectors, second.vectors) for first, second in turns)
        lines.append(
            f"| {kind} | {rate[0]:.1f} | {rate[1]:.1f} | {wall:.2f} | {processor:.2f} | {cosine:.6f} |"
        )
    least = [windows * WINDOW_FLOP / speed for speed in speeds]
    spent = [turn["decoded waveforms"][1].wall for turn in rounds]
    share = statistics.median(bound / own for bound, own in zip(least, spent, strict=True))
    operations = windows * WINDOW_FLOP
    lines += [
        "",
        f"Floor: {operations / 1e9:.0f} GFLOP at {statistics.median(speeds) / 1e9:.0f} GFLOP/s are "
        f"{statistics.median(least):.2f} s. From decoded waveforms affetto takes "
        f"{statistics.median(spent):.2f} s: {100 * share:.0f} % of that is the floor.\n",
        "The bar is a ratio of 3 and a cosine above 0.999.",
    ]
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


def louder(package: Any, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raises quiet speech as Resemblyzer's preprocessing does."""
    if not samples.any():
        return samples
    raised: NDArray[np.float32] = package.normalize_volume(samples, -30, increase_only=True)
    return raised.astype(np.float32)


if __name__ == "__main__":
    main()
