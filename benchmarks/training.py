"""How much of a bare loop's speed the training loop keeps, on the same batches in memory.

    python benchmarks/training.py

Once fine-tuning the default ``cnn`` on waveforms, once pretraining the default ``tdnn`` by contrast on
log-mel frames, both with AdamW; rounds alternate, and medians are compared.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.logmel import Tdnn
from affetto.objectives.objective import Objective
from affetto.objectives.supervised import Classify, ClassifySettings
from affetto.objectives.views import Contrastive, ContrastiveSettings, Multitask, ViewSettings
from affetto.optimising import TrainSettings, make_accelerator
from affetto.runs import RunFolder, write_text
from affetto.training import fit

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")


class InMemory:
    """The same batches every epoch."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def finetuning() -> Objective:
    classifier = EmotionClassifier(ClassifierSettings(labels=LABELS))
    return Classify(classifier, ClassifySettings(), AugmentConfig())


def waveforms(count: int, size: int = 32, seconds: float = 2.5) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    samples = int(16_000 * seconds)
    lengths, index = torch.full((size,), samples), torch.arange(size)
    columns = {"target": torch.eye(len(LABELS))[index % len(LABELS)]}
    drawn = (0.1 * torch.randn(size, samples, generator=generator) for _ in range(count))
    return InMemory([Batch(values, lengths, index, columns) for values in drawn])


def pretraining() -> Objective:
    encoder = Tdnn()
    tasks = {"contrastive": Contrastive(ContrastiveSettings(), encoder.dim)}
    return Multitask(encoder, tasks, {}, ViewSettings())


def spectra(count: int, size: int = 128, frames: int = 250) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    lengths, index = torch.full((size,), frames), torch.arange(size)
    columns = {"speaker": index // 16, "group": index % 6}
    drawn = (torch.randn(size, frames, 80, generator=generator) - 7 for _ in range(count))
    return InMemory([Batch(values, lengths, index, columns) for values in drawn])


JOBS: dict[str, tuple[str, Callable[[], Objective], Callable[[int], InMemory]]] = {
    "finetune": ("32 utterances of 2.5 s a batch, the default `cnn`", finetuning, waveforms),
    "pretrain": ("128 utterances a batch, two views of 1.6 s each, the default `tdnn`", pretraining, spectra),
}


def bare(make: Callable[[], Objective], batches: InMemory, epochs: int) -> float:
    """Utterances a second of forward, backward, step, and nothing else."""
    torch.manual_seed(0)
    model = make().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    for _ in range(epochs):
        for batch in batches:
            torch.stack(list(model(batch).values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    return epochs * sum(len(batch) for batch in batches) / (time.perf_counter() - began)


def ours(make: Callable[[], Objective], batches: InMemory, epochs: int) -> float:
    """Utterances a second of the training loop, checkpoints and logs included."""
    torch.manual_seed(0)
    settings = TrainSettings(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings)
        began = time.perf_counter()
        fit(make(), batches, settings, RunFolder(Path(folder)), accelerator=accelerator)
        spent = time.perf_counter() - began
    return epochs * sum(len(batch) for batch in batches) / spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    text = (
        "# Training loop\n\n"
        f"`python benchmarks/training.py`, {torch.get_num_threads()} threads, {arguments.rounds} alternating "
        "rounds; bare is forward, backward and step; ours has clipping, schedule, logs and checkpoints.\n\n"
        "| job | bare, utterances a second | ours | share |\n|---|---:|---:|---:|\n"
    )
    for name, (described, make, draw) in JOBS.items():
        batches = draw(arguments.batches)
        bare(make, draw(4), 1)
        rounds = [
            (bare(make, batches, arguments.epochs), ours(make, batches, arguments.epochs))
            for _ in range(arguments.rounds)
        ]
        floor, loop = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(second / first for first, second in rounds)
        text += f"| {name}: {described} | {floor:.0f} | {loop:.0f} | {ratio:.2f} |\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
