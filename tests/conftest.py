"""Fixtures that several rooms share."""

import gc
import os
from pathlib import Path

import pytest
import torch

from affetto.corpora import toy
from affetto.corpora.manifest import Manifest

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")


@pytest.fixture(scope="session")
def corpora_root() -> Path:
    """Folder with real recordings (crema-d, ravdess, emodb); the test skips where there is none."""
    named = os.environ.get("AFFETTO_CORPORA")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "corpora"
    if not (root / "crema-d").is_dir():
        pytest.skip("no real recordings: set AFFETTO_CORPORA to a folder with crema-d, ravdess, emodb")
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every test away from the user's own cache, and torch on one thread."""
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _known_objects() -> None:
    """Keeps what is imported out of every later collection of garbage: each training ends with one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """60 recordings: 6 speakers, 5 emotions, 2 sentences."""
    return toy.write(tmp_path_factory.mktemp("toy"), speakers=6, sentences=2, takes=1)


@pytest.fixture(scope="session")
def listed(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as a file."""
    file = tmp_path_factory.mktemp("manifest") / "toy.csv"
    corpus.write(file)
    return file


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fold: train on four speakers, choose on one, test on one."""
    file = tmp_path_factory.mktemp("protocol") / "toy-5.yaml"
    file.write_text(
        "name: toy-5\n"
        "description: the toy corpus, one fold\n"
        "corpus: toy\n"
        f"labels: [{', '.join(LABELS)}]\n"
        "label_source: intended labels\n"
        "units: f01 f02 f03 m01 m02 m03\n"
        "folds:\n"
        "  - {test: f03, dev: m03}\n"
        "dev_rule: made up\n",
        encoding="utf-8",
    )
    return file
