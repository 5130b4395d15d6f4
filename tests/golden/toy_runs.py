"""Runs every verb once on a very small toy corpus, through the command line, and gathers what it wrote.

``python tests/golden/toy_runs.py`` records the outputs anew. Do so only where numbers are meant to change,
and say in the commit which and why.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

RECORD = Path(__file__).parent / "toy.npz"
LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
PROTOCOL = """name: toy-5
description: the toy corpus, one fold
corpus: toy
labels: [anger, fear, happiness, neutral, sadness]
label_source: intended labels
units: f01 f02 f03 m01 m02 m03
folds:
  - {test: f03, dev: m03}
dev_rule: made up
"""
CNN = ("encoder.width=16", "encoder.blocks=1", "encoder.bins=32")
FIT = ("train.epochs=2", "train.batch_size=8")
RANKER = (
    "ranker.functionals.bins=8",
    "ranker.network.bins=16",
    "ranker.network.width=12",
    "ranker.network.hidden=8",
    "ranker.network.blocks=1",
    "ranker.train.epochs=2",
    "ranker.train.batch_size=16",
)


def machine() -> str:
    """What decides of the last digits: the processor and torch."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"


def call(*words: object) -> str:
    """Runs one command and returns what it printed."""
    from affetto.cli import app

    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def of_table(file: Path, *columns: str) -> np.ndarray[Any, Any]:
    """Returns the numbers of a table, rows sorted by its first column."""
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    table = table.sort_values(list(table.columns[:1]), kind="stable")
    return table[list(columns)].to_numpy(np.float64) if columns else table.filter(regex="^p_").to_numpy(float)


def weights(folder: Path) -> np.ndarray[Any, Any]:
    """Returns a few numbers of every array of the weights below a folder, names sorted."""
    rows = []
    for file in sorted(folder.rglob("*.safetensors")):
        for _, array in sorted(load_file(file).items()):
            flat = array.astype(np.float64).ravel()
            rows.append([flat.size, flat.sum(), np.abs(flat).sum(), flat[0], flat[-1]])
    return np.array(rows)


def losses(run: Path) -> np.ndarray[Any, Any]:
    """Returns the last row of every file of metrics, as sorted numbers."""
    values = []
    for file in sorted(run.rglob("metrics.jsonl")):
        row = json.loads(file.read_text().splitlines()[-1])
        values += [v for k, v in sorted(row.items()) if isinstance(v, float) and "second" not in k]
    return np.array(values)


def toy_runs(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Runs everything below a folder and returns the numbers of each output by name."""
    from affetto.corpora import toy
    from text_models import save_tiny_text

    torch.set_num_threads(1)
    out: dict[str, np.ndarray[Any, Any]] = {}
    listed, protocol = folder / "toy.csv", folder / "toy-5.yaml"
    toy.write(folder / "wav", speakers=6, sentences=2, takes=1).write(listed)
    call("scan", "toy", folder / "wav", "-o", folder / "scanned.csv")
    protocol.write_text(PROTOCOL, encoding="utf-8")
    table = ("--manifest", listed, "--protocol", protocol)

    for name, words in {
        "finetune-cnn": (*CNN, *FIT),
        "finetune-functionals": ("--encoder", "functionals"),
        "finetune-ge2e": ("--encoder", "ge2e + functionals"),
    }.items():
        run = folder / name
        call("finetune", *table, "--out", run, *words)
        out[name] = of_table(run / "predictions.parquet")
        for file in run.glob("enrolled*.parquet"):
            out[f"{name}-{file.stem}"] = of_table(file)
        out[f"{name}-weights"] = weights(run / "recogniser")
    some = sorted(path for path in (folder / "wav").rglob("*") if path.is_file())[:9]
    for name in ("cnn", "functionals"):
        model = folder / f"finetune-{name}" / "recogniser"
        for way, extra in {"": (), "-windows": ("--window", 0.7, "--hop", 0.5, "--any-sound")}.items():
            file = folder / f"predict-{name}{way}.csv"
            call("predict", *some, "-m", model, "-o", file, *extra)
            columns = [c for c in pd.read_csv(file).columns if c in LABELS or c.startswith("p_")]
            out[file.stem] = of_table(file, *columns)
    call("embed", *some, "-e", folder / "finetune-cnn" / "recogniser", "-o", folder / "embed.npy")
    out["embed"] = np.load(folder / "embed.npy").astype(np.float64)

    call("annotate", "speakers", listed, "--out", folder / "speakers")
    spoken = folder / "speakers" / "manifest.csv"
    out["annotate-speakers"] = np.load(folder / "speakers" / "speaker_embedding.npy").astype(np.float64)
    call("annotate", "clusters", spoken, "--out", folder / "clusters", "--count", 3, "--fewest", 6)
    clustered = folder / "clusters" / "manifest.csv"
    found = pd.read_csv(clustered)
    out["annotate-clusters"] = np.stack(
        [pd.factorize(found["cluster"])[0].astype(float), found["cluster_confidence"].to_numpy(float)]
    )
    call("annotate", "intensity", clustered, "--out", folder / "intensity", "--protocol", protocol, *RANKER)
    intense = folder / "intensity" / "manifest.csv"
    out["annotate-intensity"] = np.load(folder / "intensity" / "intensity.npy").astype(np.float64)

    small = ("--manifest", intense, "--protocol", protocol, "train.epochs=2", "train.batch_size=16")
    for name, words in {
        "contrastive": ("--objective", "contrastive", "encoder.width=16", "encoder.bins=20"),
        "multitask": ("--objective", "multitask", "--encoder", "cnn", "encoder.width=16", "encoder.bins=20"),
        "mockingjay": (
            *("--objective", "mockingjay", "--guidance", "emotional", "encoder.width=16", "encoder.heads=2"),
            *("encoder.blocks=1", "encoder.feed_forward=16", "encoder.bins=20"),
        ),
        "npc": (
            *("--objective", "npc", "--guidance", "emotional", "encoder.width=8", "encoder.blocks=1"),
            *("encoder.bins=20", "npc.frames=chosen"),
        ),
    }.items():
        run = folder / f"pretrain-{name}"
        call("pretrain", "--out", run, *small, *words)
        out[run.name] = losses(run)
        out[f"{run.name}-weights"] = weights(run)
    text = save_tiny_text(folder / "text")
    words = ("language.width=8", "language.hidden=8", "enrolment=false", "--target", "sl", "--text", text)
    call("pretrain", "--objective", "clap", *table, "--out", folder / "clap", *CNN, *FIT, *words)
    out["clap"] = of_table(folder / "clap" / "predictions.parquet")
    out["clap-weights"] = weights(folder / "clap" / "recogniser")
    run = folder / "finetune-pretrained"
    call("finetune", *table, "--out", run, "--encoder", folder / "pretrain-mockingjay", *FIT)
    out[run.name] = of_table(run / "predictions.parquet")
    return out


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as made:
        os.environ["AFFETTO_CACHE"] = f"{made}/cache"
        np.savez_compressed(RECORD, machine=np.array(machine()), **toy_runs(Path(made)))
