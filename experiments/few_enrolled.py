"""How many utterances an enrolment needs: all utterances of a speaker in groups, each enrolled with itself.

    python experiments/few_enrolled.py --manifest ravdess.csv --manifest emodb.csv

This is what `affetto predict --enrol-by-speaker all` does with the segments of a short recording. The
recogniser is `small`, which was trained on neither corpus. UAR and the negative log likelihood are means over
three draws of groups.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from affetto import Manifest, Recogniser

SIZES, DRAWS = (1, 2, 3, 4, 5, 10, 20), 3


def main() -> None:
    """Prints a table a manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    recogniser = Recogniser.from_pretrained(any_sound=True)
    for path in parser.parse_args().manifest:
        manifest = Manifest.read(path)
        known = manifest.table["emotion"].isin(recogniser.labels).to_numpy()
        paths = [manifest.path(row) for row in np.flatnonzero(known)]
        truth = manifest.table["emotion"][known].map(recogniser.labels.index).to_numpy()
        speakers = manifest.table["speaker"][known].to_numpy()
        vectors = recogniser.embed(paths).to(recogniser.device)
        print(f"\n{path}: {len(paths)} utterances of {len(set(speakers))} speakers\n")
        print("| in a group | UAR | negative log likelihood |\n|---:|---:|---:|")
        for size in (0, *SIZES):
            draws = range(DRAWS if size else 1)
            found = [scores(recogniser, vectors, truth, speakers, size, draw) for draw in draws]
            uar, loss = np.mean(found, axis=0)
            print(f"| {size or 'none'} | {100 * uar:.1f} | {loss:.3f} |", flush=True)


@torch.inference_mode()
def scores(
    recogniser: Recogniser,
    vectors: torch.Tensor,
    truth: np.ndarray,
    speakers: np.ndarray,
    size: int,
    draw: int,
) -> tuple[float, float]:
    """Returns UAR and mean negative log likelihood with groups of a size; 0 is without enrolment."""
    classifier, generator = recogniser.classifier, np.random.default_rng(draw)
    answers = classifier.answers(vectors)
    for speaker in np.unique(speakers) if size else ():
        own = generator.permutation(np.flatnonzero(speakers == speaker))
        for start in range(0, len(own), size):
            group = own[start : start + size]
            offset = classifier.offset(vectors[group]).expand(len(group), -1)
            answers[group] = classifier.answers(vectors[group], offset)
    found = answers.cpu().numpy()
    right = found.argmax(axis=1) == truth
    uar = np.mean([right[truth == label].mean() for label in np.unique(truth)])
    return float(uar), float(-np.log(found[np.arange(len(truth)), truth]).mean())


if __name__ == "__main__":
    main()
