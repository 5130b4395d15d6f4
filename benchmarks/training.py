"""How much of a bare loop's speed the training loop keeps, on the same batches in memory.

    python benchmarks/training.py

Both train the default ``cnn`` classifier with AdamW; rounds alternate, and medians are compared.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.objectives.classify import Classify, ClassifySettings
from affetto.runs import RunFolder, write_text
from affetto.training import TrainSettings, fit, make_accelerator

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")


class InMemory:
    """The same batches every epoch."""

    def __init__(self, count: int, size: int, seconds: float) -> None:
        generator = torch.Generator().manual_seed(0)
        samples = int(16_000 * seconds)
        lengths = torch.full((size,), samples)
        target = torch.eye(len(LABELS))[torch.arange(size) % len(LABELS)]
        index = torch.arange(size)
        self.batches = [
            Batch(0.1 * torch.randn(size, samples, generator=generator), lengths, index, {"target": target})
            for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def objective() -> Classify:
    torch.manual_seed(0)
    classifier = EmotionClassifier(ClassifierSettings(labels=LABELS))
    return Classify(classifier, ClassifySettings(), AugmentConfig())


def bare(batches: InMemory, epochs: int) -> float:
    """Utterances a second of forward, backward, step, and nothing else."""
    model = objective().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    for _ in range(epochs):
        for batch in batches:
            loss = model(batch)["classification"]
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return epochs * sum(len(batch) for batch in batches) / (time.perf_counter() - began)


def ours(batches: InMemory, epochs: int) -> float:
    """Utterances a second of the training loop, checkpoints and logs included."""
    settings = TrainSettings(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings)
        began = time.perf_counter()
        fit(objective(), batches, settings, RunFolder(Path(folder)), accelerator=accelerator)
        spent = time.perf_counter() - began
    return epochs * sum(len(batch) for batch in batches) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    batches = InMemory(arguments.batches, 32, 2.5)
    bare(InMemory(4, 32, 2.5), 1)
    pairs = [
        (bare(batches, arguments.epochs), ours(batches, arguments.epochs)) for _ in range(arguments.rounds)
    ]
    floor, loop = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    text = (
        "# Training loop\n\n"
        f"`python benchmarks/training.py`, {torch.get_num_threads()} threads, {arguments.rounds} alternating "
        "rounds, 32 utterances of 2.5 s a batch, the default `cnn`.\n\n"
        "| loop | utterances a second | share of the bare loop |\n|---|---:|---:|\n"
        f"| bare forward, backward, step | {floor:.0f} | 1.00 |\n"
        f"| affetto, with clipping, schedule, logs, checkpoints | {loop:.0f} | {ratio:.2f} |\n"
    )
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
