"""Are an exported recogniser's answers those of torch, and is it as fast, on one core?

    python benchmarks/export.py --audio FOLDER

Recordings are drawn from each folder within FOLDER, and go through ``Recogniser``'s network and the ONNX file
one by one, and in batches of eight of mixed lengths; ten recordings enrol a speaker, with torch and with
``enrol.onnx``. Both work on one core, in turn; speeds are of processor time, the fastest of several rounds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from affetto import Recogniser
from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora.scanning import find_audio
from affetto.export.onnx import ENROL, MODEL, export_onnx
from affetto.runs import write_text

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


def batches(sounds: list[NDArray[np.float32]], size: int) -> list[Batch]:
    """Returns waveforms ``(B, S)``, zero past their ends, and their lengths."""
    made = []
    for first in range(0, len(sounds), size):
        own = sounds[first : first + size]
        lengths = np.array([len(each) for each in own])
        waveforms = np.zeros((len(own), lengths.max()), np.float32)
        for row, each in zip(waveforms, own, strict=True):
            row[: len(each)] = each
        made.append((waveforms, lengths))
    return made


class Both:
    """A recogniser in torch, and one of its exports."""

    def __init__(self, recogniser: Recogniser, folder: Path) -> None:
        self.network = recogniser.classifier
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session, self.enrolling = (
            onnxruntime.InferenceSession(str(folder / file), options) for file in (MODEL, ENROL)
        )

    @torch.inference_mode()
    def in_torch(self, batch: Batch, offset: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        waveforms, lengths = (torch.from_numpy(each) for each in batch)
        vectors = self.network.embed(*self.network.front_end(waveforms, lengths))
        own = None if offset is None else torch.from_numpy(offset[0])
        return np.asarray(self.network.answers(vectors, own))

    def in_onnx(self, batch: Batch, offset: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        given = {"waveforms": batch[0], "lengths": batch[1]}
        given |= {} if offset is None else {"enrolment": offset}
        return np.asarray(self.session.run(["probabilities"], given)[0])

    @torch.inference_mode()
    def offsets(self, some: list[Batch]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Enrols with either."""
        vectors = np.concatenate(
            [self.session.run(["vectors"], {"waveforms": each[0], "lengths": each[1]})[0] for each in some]
        )
        [offset] = self.enrolling.run(None, {"vectors": vectors})
        read = [(torch.from_numpy(each[0]), torch.from_numpy(each[1])) for each in some]
        own = torch.cat([self.network.embed(*self.network.front_end(*pair)) for pair in read])
        return self.network.offset(own).numpy()[None], offset

    def speeds(self, some: list[Batch], rounds: int) -> tuple[float, float]:
        """Returns seconds of speech for each second of processor time, of torch and of ONNX."""
        spent = [[], []]  # type: list[list[float]]
        for _ in range(rounds):
            for own, run in zip(spent, (self.in_torch, self.in_onnx), strict=True):
                began = time.process_time()
                for batch in some:
                    run(batch)
                own.append(time.process_time() - began)
        seconds = sum(int(lengths.sum()) for _, lengths in some) / SAMPLE_RATE
        return seconds / min(spent[0]), seconds / min(spent[1])


def main() -> None:
    """Measures, prints, writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--model", default="small")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folders = sorted(each for each in given.audio.iterdir() if each.is_dir())
    share, chosen = -(-given.count // len(folders)), []
    for folder in folders:
        files = find_audio(folder)
        chosen += [files[place] for place in np.linspace(0, len(files) - 1, share).astype(int)]
    chosen = chosen[: given.count]
    order = np.random.default_rng(0).permutation(len(chosen))
    sounds = [decode(chosen[place]) for place in order]
    recogniser = Recogniser.from_pretrained(given.model, any_sound=True, device="cpu")
    lengths = np.array([len(each) for each in sounds]) / SAMPLE_RATE
    lines = [
        f"{len(sounds)} recordings of {', '.join(each.name for each in folders)}, {lengths.min():.1f} to "
        f"{lengths.max():.1f} s; one core; torch {torch.__version__}, onnxruntime "
        f"{onnxruntime.__version__}. Speeds are seconds of speech for each second of processor time.\n",
        "| weights | MB | recordings at once | largest difference | with enrolment | torch | ONNX | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for int8 in (False, True):
        with tempfile.TemporaryDirectory() as name:
            made = export_onnx(given.model, name, int8=int8)
            both = Both(recogniser, made.folder)
            for size in (1, 8):
                some = batches(sounds, size)
                own, other = both.offsets(batches(sounds[:10], size))
                plain = max(np.abs(both.in_torch(each) - both.in_onnx(each)).max() for each in some)
                adapted = max(
                    np.abs(both.in_torch(each, own) - both.in_onnx(each, other)).max() for each in some
                )
                slow, fast = both.speeds(some, given.rounds)
                lines.append(
                    f"| {'8' if int8 else '32'} bits | {made.megabytes:.1f} | {size} | {plain:.0e} | "
                    f"{adapted:.0e} | {slow:.0f} | {fast:.0f} | {fast / slow:.2f} |"
                )
    page = "\n".join(lines)
    print(page)
    command = f"python benchmarks/export.py --audio FOLDER --model {given.model} --count {given.count}"
    write_text(Path(__file__).with_suffix(".md"), f"# Export to ONNX\n\n`{command}`: {page}\n")


if __name__ == "__main__":
    main()
