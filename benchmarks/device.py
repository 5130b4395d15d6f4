"""How much of a bare loop's speed the package keeps on a device, and how much of the device the loop uses.

    python benchmarks/device.py [--device cuda] [--whisper FOLDER] [--small]

Fine-tuning ``cnn``, pretraining by contrast, Mockingjay and NPC at their published sizes, and Whisper, frozen
and fine-tuned: the package reads a cache through its loader, with clipping, schedule, logs and checkpoints;
against it a bare loop takes the same batches, which are in the memory of the device already, and does
forward, backward and step. Then k-means against twenty plain rounds, and Mockingjay against the
``BertEncoder`` of transformers of the same size. Rounds alternate, and medians are compared. Without
``--whisper`` a tiny Whisper with random weights is made. With ``--small`` sizes are such that two cores need
less than three minutes.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from affetto.augment import AugmentConfig
from affetto.data import Batch, FeatureCache, LengthBuckets, Loader, WaveformCache
from affetto.finetuning.settings import finetune_settings
from affetto.masking import MaskSettings
from affetto.material.forward import batches_by_length, run_over
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.encoder import chosen_device
from affetto.models.layers import frame_statistics
from affetto.models.logmel import Tdnn
from affetto.models.masked_encoders import Mockingjay, MockingjaySettings, Npc, NpcSettings
from affetto.objectives.masked import (
    MockingjayObjective,
    MockingjayObjectiveSettings,
    NpcObjective,
    NpcObjectiveSettings,
)
from affetto.objectives.supervised import Classify, ClassifySettings
from affetto.objectives.views import Contrastive, ContrastiveSettings, Multitask, ViewSettings
from affetto.optimising import TrainSettings, make_accelerator
from affetto.runs import RunFolder, write_text
from affetto.training import fit
from affetto.vectors.kmeans import spherical_kmeans

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, by their makers
SPEAKERS, CLUSTERS, RESTARTS, PLAIN_ROUNDS = 91, 6, 10, 20


class Job(NamedTuple):
    """What is trained, on what, in batches of which size."""

    make: Callable[[], nn.Module]
    store: Any
    batch: int


class Sizes(NamedTuple):
    """How large everything is."""

    utterances: int
    seconds: float  # that one measurement lasts, about
    mockingjay: MockingjaySettings
    npc: NpcSettings
    batch: int
    vectors: int


FULL = Sizes(
    utterances=2048,
    seconds=6.0,
    mockingjay=MockingjaySettings(
        width=768, heads=12, feed_forward=3072, attention_dropout=0.1, front_end="fbank", deltas=2, stack=1
    ),
    npc=NpcSettings(width=512, front_end="fbank"),
    batch=128,
    vectors=7442,
)
SMALL = Sizes(
    utterances=64,
    seconds=4.0,
    mockingjay=MockingjaySettings(width=128, front_end="fbank", deltas=2, stack=1),
    npc=NpcSettings(width=64, front_end="fbank"),
    batch=16,
    vectors=2000,
)


def waveforms(folder: Path, count: int) -> WaveformCache:
    """Noise of 2 to 3 seconds, in a cache like that of recordings."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(32_000, 48_000, count)
    folder.mkdir()
    np.save(folder / "values.npy", generator.integers(-3000, 3000, int(lengths.sum()), np.int16))
    facts = {"lengths": lengths.tolist(), "errors": {}}
    (folder / "index.json").write_text(json.dumps(facts), encoding="utf-8")
    return WaveformCache(folder, [str(row) for row in range(count)])


def features(count: int, columns: int, level: float) -> FeatureCache:
    generator = np.random.default_rng(0)
    lengths = generator.integers(200, 300, count).tolist()
    rows = (generator.standard_normal((length, columns), np.float32) + level for length in lengths)
    return FeatureCache.open(f"{columns}-{level}", lambda: rows)


def whisper_folder(folder: Path) -> str:
    """A Whisper of two layers with random weights."""
    import transformers

    shape = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
    shape |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 64, "vocab_size": 40}
    shape |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    transformers.WhisperModel(transformers.WhisperConfig(**shape)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


def whisper(model: str) -> Classify:
    overrides = (f"encoder.model={model}", "train_encoder=true")
    settings = finetune_settings(protocol="speaker-kfold", encoder="whisper", overrides=overrides)
    classifier = EmotionClassifier(ClassifierSettings(labels=LABELS, embedder=settings.embedder))
    return Classify(classifier, ClassifySettings(), AugmentConfig(gain_db=6))


def jobs(sizes: Sizes, folder: Path, model: str) -> dict[str, Job]:
    sound = waveforms(folder / "sound", sizes.utterances)
    logmel = features(sizes.utterances, 80, -7.0)

    def finetuning() -> nn.Module:
        classifier = EmotionClassifier(ClassifierSettings(labels=LABELS))
        config = finetune_settings(protocol="speaker-kfold", encoder="cnn").augment
        return Classify(classifier, ClassifySettings(), config)

    def contrast() -> nn.Module:
        encoder = Tdnn()
        return Multitask(
            encoder, {"contrastive": Contrastive(ContrastiveSettings(), encoder.dim)}, {}, ViewSettings()
        )

    def mockingjay() -> nn.Module:
        encoder = Mockingjay(sizes.mockingjay)
        return MockingjayObjective(encoder, MockingjayObjectiveSettings(), MaskSettings())

    def npc() -> nn.Module:
        return NpcObjective(Npc(sizes.npc), NpcObjectiveSettings(), MaskSettings())

    return {
        "finetune cnn": Job(finetuning, sound, 32),
        "pretrain contrastive": Job(contrast, logmel, 128),
        "pretrain mockingjay": Job(mockingjay, features(sizes.utterances, 240, 0.0), sizes.batch),
        "pretrain npc": Job(npc, features(sizes.utterances, 80, 0.0), sizes.batch),
        "finetune whisper": Job(partial(whisper, model), sound, sizes.batch // 2),
    }


class Bench:
    """Measures on one device."""

    def __init__(self, device: torch.device, sizes: Sizes, rounds: int) -> None:
        self.device, self.sizes, self.rounds = device, sizes, rounds
        self.accelerator = make_accelerator(TrainSettings(), device)

    def timed(self, work: Callable[[], object]) -> float:
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float:
        """Operations a second: those that the maker names, or else of a product of two matrices."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
            for known, peak in PEAKS.items():
                if known in name:
                    return peak
        size = 1024 if self.device.type == "cpu" else 8192
        values = torch.randn(size, size, device=self.device)
        with self.accelerator.autocast():
            return max(2 * size**3 / self.timed(lambda: values @ values) for _ in range(5))

    def loader(self, job: Job, utterances: int) -> Loader:
        """One epoch of at least so many utterances."""
        own = np.arange(self.sizes.utterances)
        rows = np.tile(own, -(-utterances // len(own)))
        columns = {"target": torch.eye(len(LABELS))[torch.from_numpy(own) % len(LABELS)]}
        columns |= {"speaker": torch.from_numpy(own // 16), "group": torch.from_numpy(own % 6)}
        buckets = LengthBuckets(job.store.lengths[rows], job.batch)
        return Loader(buckets, [job.store], rows, columns, device=self.device)

    def bare(self, model: nn.Module, batches: list[Batch], least: float) -> float:
        """Utterances a second of forward, backward, step, and nothing else, over about so many seconds."""
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        count = 0

        def work() -> None:
            nonlocal count
            began = time.perf_counter()
            while time.perf_counter() - began < least:
                for batch in batches:
                    with self.accelerator.autocast():
                        losses = model(batch)
                    torch.stack(list(losses.values())).sum().backward()
                    optimiser.step()
                    optimiser.zero_grad()
                    count += len(batch)
                self.wait()  # once a pass, so that the clock is that of the device

        return 1 / (self.timed(work) / max(1, count))

    def ours(self, job: Job, utterances: int) -> float:
        """Utterances a second of the training loop over an epoch."""
        loader, objective = self.loader(job, utterances), job.make()
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            settings = TrainSettings(epochs=1, learning_rate=1e-4)
            spent = self.timed(lambda: fit(objective, loader, settings, run, accelerator=self.accelerator))
        return len(loader.rows) / spent

    def training(self, job: Job) -> dict[str, float]:
        torch.manual_seed(0)
        batches = list(self.loader(job, 1))
        model = job.make().to(self.device).train()
        with FlopCounterMode(display=False) as counter, self.accelerator.autocast():
            torch.stack(list(model(batches[0]).values())).sum().backward()
        speed = self.bare(model, batches, self.sizes.seconds / 3)  # warms up
        pairs = [
            (
                self.bare(model, batches, self.sizes.seconds),
                self.ours(job, round(speed * self.sizes.seconds)),
            )
            for _ in range(self.rounds)
        ]
        return self.row(pairs, counter.get_total_flops() / len(batches[0]))

    def row(self, pairs: list[tuple[float, float]], flops: float) -> dict[str, float]:
        bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        share = statistics.median(second / first for first, second in pairs)
        return {"bare": bare, "affetto": ours, "ratio": share, "flops": flops}

    def frozen(self, store: WaveformCache, model: str) -> dict[str, float]:
        """Statistics of Whisper's layers, as ``--frozen`` and ``embed`` compute vectors."""
        encoder = whisper(model).classifier.embedder.encoder.to(self.device).eval()
        rows = np.arange(len(store))
        places = list(batches_by_length(store.lengths))
        batches = [tuple(each.to(self.device) for each in store.stack(place)) for place in places]

        def network(values: Tensor, lengths: Tensor) -> Tensor:
            return frame_statistics(encoder(*encoder.front_end(values, lengths)))

        def plain() -> None:
            with torch.inference_mode():
                for batch in batches:
                    network(*batch)

        def package() -> None:
            for _ in run_over(network, store, rows, store.lengths, module=encoder, device=self.device):
                pass

        with FlopCounterMode(display=False) as counter:
            plain()
        pairs = [(len(rows) / self.timed(plain), len(rows) / self.timed(package)) for _ in range(self.rounds)]
        return self.row(pairs, counter.get_total_flops() / len(rows))

    def clusters(self) -> dict[str, float]:
        """All restarts of all speakers at once; bare are rounds of assigning and summing, none of seeding."""
        generator, count = np.random.default_rng(0), self.sizes.vectors
        vectors = generator.standard_normal((count, 256), np.float32)
        groups = np.sort(np.arange(count) % SPEAKERS)
        size = count // SPEAKERS
        padded = torch.nn.functional.normalize(torch.from_numpy(vectors[: SPEAKERS * size]), dim=1)
        points = padded.view(SPEAKERS, size, 256).to(self.device)

        def plain() -> None:
            centres = points[:, torch.arange(CLUSTERS * RESTARTS, device=self.device) % size]
            for _ in range(PLAIN_ROUNDS):
                cosines = (centres @ points.transpose(1, 2)).unflatten(1, (RESTARTS, CLUSTERS))
                members = (cosines == cosines.amax(2, keepdim=True)).float()
                centres = torch.nn.functional.normalize(members.flatten(1, 2) @ points, dim=2)

        def package() -> None:
            spherical_kmeans(vectors, groups, [CLUSTERS], restarts=RESTARTS, device=str(self.device))

        plain()
        package()
        pairs = [(count / self.timed(plain), count / self.timed(package)) for _ in range(self.rounds)]
        return self.row(pairs, 0.0)

    def bert(self) -> dict[str, float]:
        """Mockingjay against the encoder of transformers between the same layers, without heads and masks."""
        from masked import Bert

        shape = self.sizes.mockingjay
        networks = [Bert(shape.attention_dropout), Mockingjay(shape)] if shape.width == 768 else []
        speeds: list[list[float]] = []
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(self.sizes.batch, 300, 240, generator=generator).to(self.device)
        lengths = torch.full((self.sizes.batch,), 300, device=self.device)
        batch = Batch(values, lengths, lengths, {})
        for network in networks:
            model = Loss(network).to(self.device).train()
            self.bare(model, [batch] * 4, self.sizes.seconds / 3)
            speeds.append([self.bare(model, [batch] * 4, self.sizes.seconds) for _ in range(self.rounds)])
        return self.row(list(zip(*speeds, strict=True)), 0.0) if speeds else {}


class Loss(nn.Module):
    """The mean square of a network's frames."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = self.network(batch.values, batch.lengths)
        return {"size": (out if isinstance(out, Tensor) else out.values).float().square().mean()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--whisper", help="folder of a Whisper model")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    device, sizes = chosen_device(arguments.device), SMALL if arguments.small else FULL
    bench, began = Bench(device, sizes, arguments.rounds), time.perf_counter()
    cuda = device.type == "cuda"
    named = torch.cuda.get_device_name(device) if cuda else f"CPU, threads: {torch.get_num_threads()}"
    precision = {"no": "full"}.get(bench.accelerator.mixed_precision, bench.accelerator.mixed_precision)
    peak, rows = bench.peak(), {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["AFFETTO_CACHE"] = made
        model = arguments.whisper or whisper_folder(folder / "whisper")
        todo = jobs(sizes, folder, model)
        measures: dict[str, Callable[[], dict[str, float]]] = {
            **{name: partial(bench.training, job) for name, job in todo.items()},
            "frozen whisper": partial(bench.frozen, todo["finetune cnn"].store, model),
            "k-means": bench.clusters,
            "mockingjay against BertEncoder": bench.bert,
        }
        for name, measure in measures.items():
            if found := measure():
                found["utilisation"] = found["affetto"] * found["flops"] / peak
                rows[name] = found
                print(json.dumps({"job": name, "device": named, "precision": precision, **found}), flush=True)
            if cuda:
                torch.cuda.empty_cache()
    text = table(rows, named, precision, peak, arguments.small, time.perf_counter() - began, cuda)
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


def table(
    rows: dict[str, dict[str, float]],
    named: str,
    precision: str,
    peak: float,
    small: bool,
    spent: float,
    cuda: bool,
) -> str:
    text = (
        f"# Device\n\n`python benchmarks/device.py{' --small' if small else ''}`, {named}, precision "
        f"{precision}, {spent:.0f} s in all. Utilisation is of {peak / 1e12:.2g} TFLOP/s."
        f"{'' if cuda else ' No GPU has been measured yet.'}\n\n"
        "| job | bare, utterances a second | affetto | ratio | utilisation |\n|---|---:|---:|---:|---:|\n"
    )
    for name, row in rows.items():
        used = f"{100 * row['utilisation']:.0f} %" if row["flops"] else ""
        text += f"| {name} | {row['bare']:,.0f} | {row['affetto']:,.0f} | {row['ratio']:.2f} | {used} |\n"
    return text


if __name__ == "__main__":
    main()
