"""Pretraining on tar files: with the cache as on loose files, without it to equal bytes, stopped or not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from affetto import training
from affetto.cli import app
from affetto.corpora import packing
from affetto.corpora.manifest import Manifest
from affetto.data import caches
from affetto.errors import ManifestError
from affetto.members import member_of
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import PretrainSettings, pretrain_settings
from affetto.runs import RunFolder

VIEWS = ("encoder.width=16", "encoder.blocks=1", "encoder.bins=20", "per_speaker=4", "train.batch_size=16")
MASKED = (
    *(
        "encoder.width=16",
        "encoder.heads=2",
        "encoder.blocks=1",
        "encoder.feed_forward=16",
        "encoder.bins=20",
    ),
    "train.batch_size=16",
)
STREAMED = ("shuffle_buffer=32", "train.epochs=3", "train.checkpoint_steps=1")


@pytest.fixture(scope="module")
def packed(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = corpus.table.assign(cluster=[str(row % 3) for row in range(len(corpus))])
    folder = tmp_path_factory.mktemp("packed") / "toy"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packing, "_SHARD_BYTES", 1 << 19)
        packing.pack(Manifest(table, corpus.roots), folder)
    return folder / packing.PACKED


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run / "seed-0/fold-1/encoder/model.safetensors")


def assert_equal(one: RunFolder, other: RunFolder) -> None:
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


def of(objective: str, *overrides: str) -> PretrainSettings:
    own = VIEWS if objective == "contrastive" else MASKED
    return pretrain_settings(None, (*own, *overrides), objective=objective)


def test_with_the_cache_it_is_as_on_loose_files(corpus: Manifest, packed: Path, tmp_path: Path) -> None:
    settings = of("mockingjay", "train.epochs=1")
    loose = Manifest(corpus.table, corpus.roots)
    assert_equal(pretrain(loose, settings, tmp_path / "loose"), pretrain(packed, settings, tmp_path / "tars"))


@pytest.mark.parametrize("objective", ["contrastive", "mockingjay"])
def test_without_the_cache_it_goes_on_in_the_middle_of_an_epoch(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    settings = of(objective, *STREAMED)
    monkeypatch.setattr(caches, "_built", lambda *_: pytest.fail("a cache was made"))
    whole = pretrain(packed, settings, tmp_path / "whole")
    step = training._Loop.train_on

    def stopped(loop: training._Loop, batch: object) -> None:
        if (loop.epoch, loop.batch) == (1, 2):
            raise KeyboardInterrupt
        step(loop, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(training._Loop, "train_on", stopped)
        with pytest.raises(KeyboardInterrupt):
            pretrain(packed, settings, tmp_path / "stopped")
    assert_equal(whole, pretrain(packed, settings, tmp_path / "stopped"))


def test_two_processes_are_one(packed: Path, tmp_path: Path) -> None:
    # Without a mask that is drawn: each process draws its own.
    exact = ("encoder.width=16", "encoder.blocks=1", "encoder.bins=20", "npc.frames=all", "encoder.dropout=0")
    words = ["pretrain", "--manifest", str(packed), "--objective", "npc", *exact]
    words += ["shuffle_buffer=32", "train.epochs=2"]
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    assert CliRunner().invoke(app, [*words, "-o", str(one.path), "train.batch_size=16"]).exit_code == 0
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    line = [*start, "affetto", *words, "-o", str(two.path), "train.batch_size=8"]
    subprocess.run(line, check=True, capture_output=True)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=1e-3, atol=1e-4)


def test_damage_is_counted_at_the_end(packed: Path, tmp_path: Path) -> None:
    made = Manifest.read(packed)
    shards = {place.tar for place in map(member_of, made.paths) if place}
    for tar in shards:
        (tmp_path / Path(tar).name).write_bytes(Path(tar).read_bytes())
    copy = Manifest(made.table, {"toy": tmp_path})
    place = member_of(copy.paths[5])
    assert place is not None
    with open(place.tar, "r+b") as file:
        file.seek(place.offset)
        file.write(bytes(200))
    run = pretrain(copy, of("mockingjay", "shuffle_buffer=32", "train.epochs=1"), tmp_path / "run")
    unreadable = json.loads((run / "meta.json").read_text())["unreadable"]
    assert list(unreadable) == [made.keys[5]]
    assert all(np.isfinite(tensor.numpy()).all() for tensor in weights(run).values())


def test_a_buffer_is_for_tar_files(corpus: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="shuffle_buffer is for recordings in tar files"):
        pretrain(corpus, of("mockingjay", "shuffle_buffer=32"), tmp_path / "run")
