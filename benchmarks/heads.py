"""Heads on fixed vectors: logistic regression against scikit-learn's, and enrolment against that fit.

    python benchmarks/heads.py [--utterances 2400] [--dims 4096] [--rounds 3]

Vectors are made up: speakers, six classes and a rest in a space of 200 dimensions. Each round fits all
strengths by ``affetto``, the same strengths by scikit-learn, and the enrolment; the medians of processor time
are compared.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LogisticRegression

from affetto.finetuning.classical import LOGISTIC_STRENGTHS, fit_logistic
from affetto.finetuning.enrolment import fit_enrolment
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import FunctionalsSettings
from affetto.models.enrolment import SpeakerOffset
from affetto.models.heads import LinearHead, Standardise
from affetto.parallel import cores
from affetto.runs import write_text

CLASSES, EACH = 6, 80


def spent() -> float:
    """Returns seconds of the processor so far."""
    return sum(os.times()[:2])


def made_up(utterances: int, dims: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Returns vectors ``(N, D)``, classes and speakers."""
    generator = np.random.default_rng(0)
    speaker, truth = np.arange(utterances) // EACH, generator.integers(CLASSES, size=utterances)
    inside = (
        generator.normal(0, 1, (utterances, 200)) + generator.normal(0, 1, (speaker.max() + 1, 200))[speaker]
    )
    inside += 0.35 * generator.normal(0, 1, (CLASSES, 200))[truth]
    vectors = torch.from_numpy(inside @ generator.normal(0, 1, (200, dims))).float()
    return Standardise(dims).fit(vectors)(vectors), truth, speaker.astype(str)


def classifier_of(dims: int, head: LinearHead) -> EmotionClassifier:
    """Returns a classifier on the vectors; its own embedder is not used."""
    labels = tuple(f"class {number}" for number in range(CLASSES))
    settings = ClassifierSettings(embedder=FunctionalsSettings(), labels=labels, enrolment=True, dropout=0)
    classifier = EmotionClassifier(settings).eval()
    classifier.embedder.dim, classifier.head = dims, head
    classifier.enrolment = SpeakerOffset(dims, CLASSES)
    return classifier.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=2400)
    parser.add_argument("--dims", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    vectors, truth, speakers = made_up(given.utterances, given.dims)
    dev = np.arange(given.utterances - 8 * EACH, given.utterances)
    train = np.arange(given.utterances - 8 * EACH)
    targets = torch.nn.functional.one_hot(torch.from_numpy(truth), CLASSES).float()
    material: Any = SimpleNamespace(truth=truth, speakers=speakers)
    taken: dict[str, list[float]] = {"ours": [], "scikit-learn": [], "enrolment": []}
    for _ in range(given.rounds):
        began = spent()
        head, found = fit_logistic(vectors, targets, train, dev, None)
        taken["ours"].append(spent() - began)
        began = spent()
        for strength in LOGISTIC_STRENGTHS:
            LogisticRegression(C=strength, max_iter=300).fit(vectors[train].numpy(), truth[train])
        taken["scikit-learn"].append(spent() - began)
        classifier = classifier_of(given.dims, head)
        began = spent()
        fit_enrolment(classifier, vectors, material, targets, train, dev, 0)
        taken["enrolment"].append(spent() - began)
    ours, theirs, enrolment = (statistics.median(times) for times in taken.values())
    lines = [
        "# Heads on fixed vectors",
        "",
        f"`python benchmarks/heads.py`: {cores()} cores, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}. {len(train):,} training and {len(dev):,} dev utterances, "
        f"{given.dims:,} dimensions, {CLASSES} classes, "
        f"{len(LOGISTIC_STRENGTHS)} strengths; median of {given.rounds} rounds, seconds of the processor. "
        f"Dev UAR {100 * found['dev_uar']:.1f}.",
        "",
        "| | s | compared with | s | ratio |",
        "|---|---:|---|---:|---:|",
        f"| logistic regression, all strengths | {ours:.1f} | scikit-learn | {theirs:.1f} "
        f"| {theirs / ours:.1f} times as fast |",
        f"| enrolment | {enrolment:.1f} | the fit of the head | {ours:.1f} | {enrolment / ours:.2f} of it |",
        "",
    ]
    print("\n".join(lines))
    write_text(Path(__file__).with_suffix(".md"), "\n".join(lines))


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
