"""Front ends beside librosa and kaldi-native-fbank: how fast on one core, and how far apart.

    python benchmarks/features.py [--audio FOLDER] [--files 192] [--repeats 9]

Prints a table and puts it into the section of benchmarks/README.md that bears its name. Recordings come from
FOLDER, or from the folder that AFFETTO_CORPORA names; without either, from a made-up voice. They are decoded
first and not timed. Everything runs in one process on one thread; the contestants take turns, and the median
of the processor seconds of their turns counts, so that other work on the machine weighs on all alike.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import kaldi_native_fbank
import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from affetto.audio import SAMPLE_RATE, decode
from affetto.errors import AudioError
from affetto.features import FrontEnd, functionals
from affetto.progress import progress

Waveforms = list[NDArray[np.float32]]
Features = list[NDArray[np.float32]]

BATCH = 32
DEPTH_NATS = 18.0  # how far below the loudest band of its frame a value is still compared: 78 dB
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
BEGIN, END = "<!-- features.py begins -->", "<!-- features.py ends -->"
MEL = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=400, n_mels=80)


def recordings(folder: Path | None, number: int) -> Waveforms:
    """Decodes about ``number`` files, evenly spread over a folder; or makes up a voice."""
    if folder is None:
        generator = np.random.default_rng(0)
        return [voice(generator.uniform(1.0, 4.0), generator) for _ in range(number)]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    waveforms = []
    for file in progress(files[:: max(1, len(files) // number)][:number], "decode"):
        try:
            waveforms.append(decode(file))
        except AudioError as error:
            print(f"skipped: {error}")
    if not waveforms:
        raise SystemExit(f"no recording in {folder}")
    return waveforms


def voice(seconds: float, generator: np.random.Generator) -> NDArray[np.float32]:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = generator.uniform(80, 300)
    harmonics = [
        np.cos(2 * np.pi * k * hertz * times) / (1 + ((k * hertz - 600) / 300) ** 2) for k in range(1, 30)
    ]
    return (0.1 * np.sum(harmonics, axis=0) + 0.005 * generator.standard_normal(len(times))).astype(
        np.float32
    )


def ours(front_end: FrontEnd, waveforms: Waveforms) -> Features:
    """Sorts by length, pads, computes and cuts: all that it takes, as a recipe does it."""
    order = sorted(range(len(waveforms)), key=lambda row: len(waveforms[row]))
    results: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(waveforms)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        lengths = torch.tensor([len(waveforms[row]) for row in rows])
        batch = torch.zeros(len(rows), int(lengths.max()))
        for line, row in zip(batch, rows, strict=True):
            line[: len(waveforms[row])] = torch.from_numpy(waveforms[row])
        features, counts = front_end(batch, lengths)
        for place, row in enumerate(rows):
            results[row] = features[place, : counts[place]].numpy()
    return results


def ours_summed(front_end: FrontEnd, waveforms: Waveforms) -> Features:
    results = []
    for features in ours(front_end, waveforms):
        table = torch.from_numpy(features)[None]
        results.append(functionals(table, torch.tensor([len(features)]), pitch=front_end.pitch)[0].numpy())
    return results


def librosa_as_called(waveforms: Waveforms) -> Features:
    tables = []
    for waveform in waveforms:
        mel = librosa.feature.melspectrogram(y=waveform, sr=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=80)
        tables.append(np.log(np.maximum(mel, 1e-10)).T)
    return tables


def librosa_kept_filters(waveforms: Waveforms) -> Features:
    """The same from librosa's parts, with the mel matrix made once: the faster way to use it."""
    tables = []
    for waveform in waveforms:
        power = np.abs(librosa.stft(waveform, n_fft=400, hop_length=160)) ** 2
        tables.append(np.log(np.maximum(MEL @ power, 1e-10)).T)
    return tables


def librosa_with_yin(waveforms: Waveforms) -> Features:
    tables = []
    for waveform, logmel in zip(waveforms, librosa_kept_filters(waveforms), strict=True):
        pitch = librosa.yin(waveform, fmin=60, fmax=500, sr=SAMPLE_RATE, frame_length=1024, hop_length=160)
        tables.append(np.concatenate([logmel, pitch[:, None]], axis=1))
    return tables


def kaldi(samples: list[list[float]]) -> Features:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    tables = []
    for waveform in samples:
        bank = kaldi_native_fbank.OnlineFbank(options)
        bank.accept_waveform(SAMPLE_RATE, waveform)
        bank.input_finished()
        tables.append(np.stack([bank.get_frame(number) for number in range(bank.num_frames_ready)]))
    return tables


def difference(these: Features, those: Features, floor: float) -> str:
    """Words the largest difference among values above the floor and within reach of float32."""
    largest, compared, total = 0.0, 0, 0
    for one, other in zip(these, those, strict=True):
        above = (other > floor) & (other > other.max(axis=1, keepdims=True) - DEPTH_NATS)
        largest = max(largest, float(np.abs(one - other)[above].max(initial=0.0)))
        compared, total = compared + int(above.sum()), total + above.size
    return f"{largest:.1e} over {compared / total:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and agreement of front ends, on one core.")
    parser.add_argument(
        "--audio", type=Path, default=os.environ.get("AFFETTO_CORPORA"), help="folder of recordings"
    )
    parser.add_argument("--files", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    folder = None if arguments.audio is None else Path(arguments.audio)
    waveforms = recordings(folder, arguments.files)
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    as_lists = [
        (waveform * 32768).tolist() for waveform in waveforms
    ]  # what Kaldi's binding takes; not timed

    logmel, fbank, pitched = FrontEnd(), FrontEnd(kind="fbank"), FrontEnd(pitch=True)
    contestants: dict[str, Callable[[], Features]] = {
        "logmel": lambda: ours(logmel, waveforms),
        "librosa": lambda: librosa_as_called(waveforms),
        "librosa, mel matrix kept": lambda: librosa_kept_filters(waveforms),
        "fbank": lambda: ours(fbank, waveforms),
        "kaldi-native-fbank": lambda: kaldi(as_lists),
        "logmel + pitch": lambda: ours(pitched, waveforms),
        "logmel + pitch + functionals": lambda: ours_summed(pitched, waveforms),
        "librosa + yin": lambda: librosa_with_yin(waveforms),
    }
    results = {name: compute() for name, compute in contestants.items()}  # warms up, too
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in progress(range(arguments.repeats), "measure"):
        for name, compute in contestants.items():
            start = time.process_time()
            compute()
            spent[name].append(time.process_time() - start)
    speed = {name: seconds / statistics.median(times) for name, times in spent.items()}

    floor = float(np.log(1e-10)) + 1e-3
    rows = [
        ("logmel", "librosa", difference(results["logmel"], results["librosa"], floor)),
        ("logmel", "librosa, mel matrix kept", "the same"),
        ("fbank", "kaldi-native-fbank", difference(results["fbank"], results["kaldi-native-fbank"], -15.0)),
        ("logmel + pitch", "librosa + yin", "another method"),
        ("logmel + pitch + functionals", "librosa + yin", "yin without functionals"),
    ]
    source = "made-up voices" if folder is None else "recordings"
    lines = [
        f"{len(waveforms)} {source}, {seconds / 60:.1f} min; one thread, batches of {BATCH}, "
        f"median of {arguments.repeats} turns; torch {torch.__version__}, librosa {librosa.__version__}, "
        f"numpy {np.__version__}. Speeds are seconds of speech for each second of processor time.",
        "",
        "| affetto | speed | beside it | speed | ratio | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for mine, theirs, apart in rows:
        ratio = speed[mine] / speed[theirs]
        lines.append(
            f"| {mine} | {speed[mine]:,.0f} | {theirs} | {speed[theirs]:,.0f} | {ratio:.1f} | {apart} |"
        )
    table = "\n".join(lines)
    print(table)
    readme = Path(__file__).with_name("README.md")
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
