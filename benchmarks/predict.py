"""Memory and time of ``predict`` over many short files, beside the floor that their work sets.

    python benchmarks/predict.py
    python benchmarks/predict.py --audio FOLDER --model RECOGNISER

Files of 1 to 3 s are cut from a few recordings (the toy corpus by default), written as FLAC and 16-bit WAV,
and predicted by a child process, once few and once many. Its peak memory is what the system says of it and of
its copies, what they share counted anew for each; its wall time begins once the recogniser is loaded. The
floor is the processor time of decoding, of features and of the network, each measured alone on a share of the
same files, over the number of cores; it is measured before and after every run. It is measured a second time
with every core at the same work, since cores that share caches and memory are slower together than one of
them alone. Like ``predict``, it is measured with freed memory kept, which makes the network alone a fifth
faster. The default recogniser is the default ``cnn`` with fresh weights.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora import toy
from affetto.corpora.scanning import find_audio
from affetto.inference import Recogniser
from affetto.inference.pipeline import BATCH_SECONDS, padded
from affetto.inference.sources import Clip, Piece
from affetto.material.forward import batches_by_length
from affetto.models.checkpoint import save_weights
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.parallel import keep_memory
from affetto.runs import write_text

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
CHILD = """
import json, resource, sys, time
from affetto.inference import Recogniser, predict
recogniser = Recogniser.from_pretrained(sys.argv[1])
began, worked = time.perf_counter(), time.process_time()
outcome = predict(recogniser, sys.argv[2], sys.argv[3])
spent, worked = time.perf_counter() - began, time.process_time() - worked
copies = resource.getrusage(resource.RUSAGE_CHILDREN)
worked += copies.ru_utime + copies.ru_stime
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + int(sys.argv[4]) * copies.ru_maxrss) / 1024
print(json.dumps([outcome.clips, outcome.failed, spent, worked, peak]))
"""


def write_files(sources: list[Path], folder: Path, count: int) -> None:
    """Writes short files, every other one FLAC."""
    folder.mkdir()
    voices = [decode(path) for path in sources]
    generator = np.random.default_rng(0)
    for number in range(count):
        voice = voices[number % len(voices)]
        length = int(generator.integers(SAMPLE_RATE, 3 * SAMPLE_RATE))
        samples = np.roll(np.resize(voice, max(length, len(voice))), -int(generator.integers(len(voice))))[
            :length
        ]
        suffix = "flac" if number % 2 else "wav"
        soundfile.write(folder / f"{number:06d}.{suffix}", samples, SAMPLE_RATE, subtype="PCM_16")


def child(model: Path, folder: Path, output: Path) -> dict[str, float]:
    """Predicts a folder in a process of its own."""
    output.unlink(missing_ok=True)
    cores = len(os.sched_getaffinity(0))
    command = [sys.executable, "-c", CHILD, str(model), str(folder), str(output), str(cores)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    names = ("files", "failed", "wall", "processor", "mebibytes")
    return dict(zip(names, json.loads(said), strict=True))


def floor(model: Path, folder: Path, files: int) -> dict[str, float]:
    """Returns processor seconds a file of decoding, features and network, each alone on one thread."""
    torch.set_num_threads(1)
    keep_memory()  # as predict does, or the floor would be too high
    classifier = Recogniser.from_pretrained(model).classifier
    paths = find_audio(folder)
    paths = paths[:: max(1, len(paths) // files)]
    for path in paths[:20]:
        decode(path)
    began = time.process_time()
    waveforms = [decode(path) for path in paths]
    decoding = time.process_time() - began
    pieces = [
        Piece(Clip(str(path), path), 0.0, 0.0, samples)
        for path, samples in zip(paths, waveforms, strict=True)
    ]
    cpu = torch.device("cpu")
    batches = batches_by_length([len(each) for each in waveforms], BATCH_SECONDS)
    packed = [padded([pieces[place] for place in batch], cpu) for batch in batches]
    with torch.inference_mode():
        classifier.answers(classifier.embed(*classifier.front_end(*packed[0])))
        began = time.process_time()
        features = [classifier.front_end(*batch) for batch in packed]
        extracting = time.process_time() - began
        began = time.process_time()
        for batch in features:
            classifier.answers(classifier.embed(*batch))
        scoring = time.process_time() - began
    spent = {"decoding": decoding, "features": extracting, "network": scoring}
    return {name: seconds / len(paths) for name, seconds in spent.items()}


def floors(model: Path, folder: Path, files: int, together: int) -> dict[str, float]:
    """Returns the mean of :func:`floor` over so many processes that measure it at the same moment."""
    with multiprocessing.get_context("spawn").Pool(together) as pool:
        found = pool.starmap(floor, [(model, folder, files)] * together, chunksize=1)
    return {name: statistics.mean(one[name] for one in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--more-files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run; medians are compared")
    parser.add_argument("--audio", type=Path, help="recordings to cut; the toy corpus by default")
    parser.add_argument("--model", type=Path, help="recogniser folder; the default cnn by default")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if arguments.audio is None:
            toy.write(scratch / "toy", speakers=4, sentences=2, takes=1)
        sources = find_audio(arguments.audio or scratch / "toy")[:40]
        model = arguments.model or scratch / "model"
        if arguments.model is None:
            torch.manual_seed(0)
            classifier = EmotionClassifier(ClassifierSettings(labels=LABELS, enrolment=True))
            described = classifier.settings.model_dump(mode="json")
            save_weights(model, classifier, {"class": "EmotionClassifier", "classifier": described})
        few, many = scratch / "few", scratch / "many"
        write_files(sources, few, arguments.files)
        write_files(sources, many, arguments.more_files)
        fews, manys, alone, together = [], [], [], []
        for _ in range(arguments.rounds):
            fews.append(child(model, few, scratch / "few.csv"))
            around = [[floors(model, many, arguments.files, count) for count in (1, cores)]]
            manys.append(child(model, many, scratch / "many.csv"))
            around.append([floors(model, many, arguments.files, count) for count in (1, cores)])
            for kind, place in ((alone, 0), (together, 1)):
                kind.append({key: statistics.mean(one[place][key] for one in around) for key in around[0][0]})
    write_report(arguments, cores, alone, together, fews, manys)


def write_report(
    arguments: argparse.Namespace,
    cores: int,
    alone: list[dict[str, float]],
    together: list[dict[str, float]],
    fews: list[dict[str, float]],
    manys: list[dict[str, float]],
) -> None:
    def median(rows: list[dict[str, float]], name: str) -> float:
        return statistics.median(row[name] for row in rows)

    def bounds(rows: list[dict[str, float]]) -> list[float]:
        return [sum(row.values()) / cores * manys[0]["files"] for row in rows]

    def ratio(rows: list[dict[str, float]]) -> float:
        return statistics.median(row["wall"] / bound for row, bound in zip(manys, bounds(rows), strict=True))

    def described(rows: list[dict[str, float]]) -> str:
        shares = ", ".join(f"{name} {1000 * median(rows, name):.2f} ms" for name in rows[0])
        least = statistics.median(bounds(rows))
        return f"{shares} of processor time a file; over {cores} cores {least:.2f} s for all"

    memory = median(manys, "mebibytes") / median(fews, "mebibytes")
    lines = [
        "# Predict\n",
        f"`python benchmarks/predict.py --files {arguments.files} --more-files {arguments.more_files}`, "
        f"{cores} cores, {arguments.rounds} rounds, medians; files of 1 to 3 s, "
        f"{'the recordings of --audio' if arguments.audio else 'toy corpus'}, "
        f"{'the recogniser of --model' if arguments.model else 'default `cnn`'}; CSV out.\n",
        "| files | wall, s | processor, s | files a second | peak memory, MiB |\n|---:|---:|---:|---:|---:|",
    ]
    for rows in (fews, manys):
        wall = median(rows, "wall")
        lines.append(
            f"| {rows[0]['files']:.0f} | {wall:.2f} | {median(rows, 'processor'):.2f} | "
            f"{rows[0]['files'] / wall:.0f} | {median(rows, 'mebibytes'):.0f} |"
        )
    lines += [
        "",
        f"Floor, one core at work: {described(alone)}.",
        f"Floor, every core at the same work: {described(together)}.\n",
        "| ratio | measured | bar |\n|---|---:|---:|",
        f"| peak memory, {manys[0]['files']:.0f} files over {fews[0]['files']:.0f} | {memory:.2f} | 1.20 |",
        f"| wall time over the floor, one core at work | {ratio(alone):.2f} | 1.25 |",
        f"| wall time over the floor, every core at work | {ratio(together):.2f} | |",
    ]
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
