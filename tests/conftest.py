"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest


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
