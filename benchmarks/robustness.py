"""How much offset, level and narrow encodings of the same recordings change what a recogniser answers.

    python benchmarks/robustness.py crema-d.csv ravdess.csv emodb.csv --each 100 --model small
    python benchmarks/robustness.py crema-d.csv ravdess.csv emodb.csv --each 30 --model base --encoder FOLDER

Of each manifest so many recordings are drawn, and written again in each way as a WAV file in memory. Compared
are the probability of the label that the plain recording gets, and the label itself. What is withheld as no
speech, before or after, is counted apart. A row for all recordings; the page has one table a recogniser.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
that the plain recording gets. The UAR is of these few recordings alone, without enrolment; those of CREMA-D
were in training.

`small` is levelled: it is made without what gain, offset and pauses say, so that gain and offset change
nothing. What is left: 8 bits of a quiet recording, which are loud noise (half of CREMA-D is under -30 dB,
20 dB above that noise), clipping of all that is too loud, and at 8 kHz the upper bands. `base` is not
levelled: it would lose more on RAVDESS than it gains ([table](../experiments/recognisers-other-corpora.md)),
since RAVDESS has the gain of CREMA-D, and there the level is a good sign of the emotion. Where the gain is
unknown, take `small`, enrol the speaker, or finetune with `embedder.levelled=true`.
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
    "as it is": lambda samples: wav(samples),
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


def drawn(manifests: list[str], each: int, labels: Sequence[str]) -> Iterator[tuple[str, Path, str]]:
    """Yields corpus, file and emotion of so many recordings of each manifest, of the labels alone."""
    chance = np.random.default_rng(0)
    for name in manifests:
        manifest = Manifest.read(name)
        emotions = manifest.table["emotion"].to_numpy(object)
        known = np.flatnonzero(np.isin(emotions, labels))
        for row in sorted(chance.choice(known, min(each, len(known)), False)):
            yield Path(name).stem, manifest.paths[row], emotions[row]


def compared(
    plain: list[dict[str, Any]], other: list[dict[str, Any]], corpora: list[str], truth: list[str]
) -> str:
    """Returns the cells of a table; what is withheld counts as wrong in the UAR."""
    moved, changed, withheld = [], 0, 0
    for one, two in zip(plain, other, strict=True):
        if one["withheld"] or two["withheld"]:
            withheld += bool(one["withheld"]) != bool(two["withheld"])
            continue
        moved.append(100 * abs(two[f"p_{one['label']}"] - one["confidence"]))
        changed += one["label"] != two["label"]
    mean, most = np.mean(moved), np.quantile(moved, 0.95)
    table = pd.DataFrame({"corpus": corpora, "truth": truth, "right": [row["label"] for row in other]})
    table["right"] = table["right"] == table["truth"]
    recalls = table.groupby(["corpus", "truth"])["right"].mean().groupby("corpus").mean()
    scores = " | ".join(f"{100 * recalls[name]:.1f}" for name in dict.fromkeys(corpora))
    return f"{mean:.1f} | {most:.1f} | {100 * changed / len(moved):.1f} | {withheld} | {scores}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--each", type=int, default=100, help="recordings of a manifest")
    parser.add_argument("--model", default="small")
    parser.add_argument("--encoder", help="folder of the network that base needs")
    given = parser.parse_args()
    recogniser = Recogniser.from_pretrained(given.model, encoder=given.encoder)
    corpora, paths, truth = map(
        list, zip(*drawn(given.manifests, given.each, recogniser.labels), strict=True)
    )
    sounds = [decode(path) for path in paths]
    plain = list(recogniser.files([wav(sound) for sound in sounds]))
    names = list(dict.fromkeys(corpora))
    hashes = ", ".join(f"{Path(name).stem} {Manifest.read(name).sha256[:12]}" for name in given.manifests)
    lines = [
        f"## {given.model}\n",
        f"{given.each} recordings of each of {hashes} (hash of the manifest).\n",
        "| | mean change | 95th percentile | labels changed, % | withheld, or no longer | "
        + " | ".join(f"UAR, {name}" for name in names)
        + " |",
        "|---" + "|---:" * (4 + len(names)) + "|",
    ]
    for name, way in WAYS.items():
        answers = list(recogniser.files([way(sound) for sound in sounds]))
        lines.append(f"| {name} | {compared(plain, answers, corpora, truth)} |")
        print(lines[-1], flush=True)
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    kept = [part for part in before.split("\n## ")[1:] if not part.startswith(f"{given.model}\n")]
    text = "\n".join(lines)[3:] + "\n"
    write_text(PAGE, "\n## ".join([HEAD, *sorted([*(part.rstrip() + "\n" for part in kept), text])]))


if __name__ == "__main__":
    main()
