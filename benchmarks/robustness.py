"""How much offset, level and narrow encodings of the same recordings change what a recogniser answers.

    python benchmarks/robustness.py crema-d.csv ravdess.csv emodb.csv --each 100 --model small
    python benchmarks/robustness.py crema-d.csv ravdess.csv emodb.csv --each 30 --model base --encoder FOLDER

Of each manifest so many recordings are drawn, and written again in each way as a WAV file in memory. Compared
are the probability of the label that the plain recording gets, and the label itself. What is withheld as no
speech, before or after, is counted apart. A row for all recordings; the page has one table a recogniser.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affetto import Recogniser
from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora.manifest import Manifest
from affetto.runs import write_text

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Robustness

How much offset, level and narrow encodings of the same recordings change the answers;
`python benchmarks/robustness.py MANIFESTS`, seed 0. Changes are of the probability, in points, of the label
that the plain recording gets.

A change of level by 20 dB changes a third of the labels. This is in the recognisers: their features come
from absolute energies, and they were made on recordings of one corpus, whose root mean square is 0.01 to
0.1 of full scale, in the median 0.02. An offset leaks into the lowest bands. Other weights would mend both;
until then, bring recordings to that level, take offsets out, or fine-tune on your own. 8 bits are written
without rounding, which is an offset of half a step besides the noise. At 8 kHz the upper bands are missing.
"""
Samples = NDArray[np.float32]


def wav(samples: Samples, subtype: str = "FLOAT", rate: int = SAMPLE_RATE) -> bytes:
    """Returns a WAV file; encodings other than FLOAT clip at full scale."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format="WAV")
    return buffer.getvalue()


def narrow(samples: Samples) -> Samples:
    """Returns samples at 8 kHz."""
    return np.asarray(soxr.resample(samples, SAMPLE_RATE, 8000, quality="HQ"))


WAYS: dict[str, Callable[[Samples], bytes]] = {
    "offset of 0.01": lambda samples: wav(samples + np.float32(0.01)),
    "offset of 0.1": lambda samples: wav(samples + np.float32(0.1)),
    "20 dB less": lambda samples: wav(samples / 10),
    "20 dB less, 16 bits": lambda samples: wav(samples / 10, "PCM_16"),
    "20 dB more, not clipped": lambda samples: wav(10 * samples),
    "20 dB more, clipped": lambda samples: wav(10 * samples, "PCM_16"),
    "8 bits": lambda samples: wav(samples, "PCM_U8"),
    "A-law": lambda samples: wav(samples, "ALAW"),
    "8 kHz": lambda samples: wav(narrow(samples), "PCM_16", 8000),
    "A-law, 8 kHz": lambda samples: wav(narrow(samples), "ALAW", 8000),
}


def drawn(manifests: list[str], each: int) -> Iterator[Path]:
    """Yields so many recordings of each manifest."""
    chance = np.random.default_rng(0)
    for name in manifests:
        paths = Manifest.read(name).paths
        yield from (paths[row] for row in sorted(chance.choice(len(paths), min(each, len(paths)), False)))


def compared(plain: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """Returns the cells of a table."""
    moved, changed, withheld = [], 0, 0
    for one, two in zip(plain, other, strict=True):
        if one["withheld"] or two["withheld"]:
            withheld += bool(one["withheld"]) != bool(two["withheld"])
            continue
        moved.append(100 * abs(two[f"p_{one['label']}"] - one["confidence"]))
        changed += one["label"] != two["label"]
    mean, most = np.mean(moved), np.quantile(moved, 0.95)
    return f"{mean:.1f} | {most:.1f} | {100 * changed / len(moved):.1f} | {withheld}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--each", type=int, default=100, help="recordings of a manifest")
    parser.add_argument("--model", default="small")
    parser.add_argument("--encoder", help="folder of the network that base needs")
    given = parser.parse_args()
    recogniser = Recogniser.from_pretrained(given.model, encoder=given.encoder)
    sounds = [decode(path) for path in drawn(given.manifests, given.each)]
    plain = list(recogniser.files([wav(sound) for sound in sounds]))
    hashes = ", ".join(f"{Path(name).stem} {Manifest.read(name).sha256[:12]}" for name in given.manifests)
    lines = [
        f"## {given.model}\n",
        f"{given.each} recordings of each of {hashes} (hash of the manifest).\n",
        "| | mean change | 95th percentile | labels changed, % | withheld, or no longer |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, way in WAYS.items():
        answers = list(recogniser.files([way(sound) for sound in sounds]))
        lines.append(f"| {name} | {compared(plain, answers)} |")
        print(lines[-1], flush=True)
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    kept = [part for part in before.split("\n## ")[1:] if not part.startswith(f"{given.model}\n")]
    text = "\n".join(lines)[3:] + "\n"
    write_text(PAGE, "\n## ".join([HEAD, *sorted([*(part.rstrip() + "\n" for part in kept), text])]))


if __name__ == "__main__":
    main()
