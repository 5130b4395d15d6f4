"""Every verb gives on the toy corpus what it gave when ``toy.npz`` was recorded."""

import re
import socket
from pathlib import Path

import numpy as np
import pytest
from toy_runs import RECORD, machine, toy_runs

# Another processor or torch rounds otherwise, and training carries that on.
SAME, ELSEWHERE = 1e-6, 5e-2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def connections() -> list[str]:
    return []


@pytest.fixture(scope="module")
def now(folder: Path, connections: list[str]) -> dict[str, np.ndarray]:
    def refused(*given: object, **named: object) -> None:
        connections.append(str(given[1:]))
        raise OSError("no connection")

    with pytest.MonkeyPatch.context() as patched:
        for name in ("connect", "connect_ex", "sendto"):
            patched.setattr(socket.socket, name, refused)
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            patched.setattr(socket, name, refused)
        patched.setenv("AFFETTO_CACHE", str(folder / "cache"))
        return toy_runs(folder)


def test_every_output_is_as_recorded(now: dict[str, np.ndarray]) -> None:
    recorded = dict(np.load(RECORD))
    tolerance = SAME if str(recorded.pop("machine")) == machine() else ELSEWHERE
    assert set(now) == set(recorded)
    wrong = []
    for name, expected in recorded.items():
        if now[name].shape != expected.shape:
            wrong.append(f"{name}: shape {now[name].shape}, recorded {expected.shape}")
        elif not np.allclose(now[name], expected, rtol=tolerance, atol=tolerance):
            wrong.append(f"{name}: differs by {np.abs(now[name] - expected).max():.2g}")
    assert wrong == []


def test_every_name_of_a_file_is_one_on_windows(now: dict[str, np.ndarray], folder: Path) -> None:
    names = {path.name for path in folder.rglob("*")}
    assert "recogniser" in names
    assert [name for name in names if re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', name)] == []


def test_nothing_connects_without_being_asked(now: dict[str, np.ndarray], connections: list[str]) -> None:
    assert connections == []


def test_the_record_is_of_real_outputs() -> None:
    """An empty or constant array would agree with anything."""
    recorded = dict(np.load(RECORD))
    recorded.pop("machine")
    assert len(recorded) >= 20
    assert all(
        array.size > 1 and np.isfinite(array).all() and np.ptp(array) > 0 for array in recorded.values()
    )
