"""Every verb gives on the toy corpus what it gave when ``toy.npz`` was recorded."""

import numpy as np
import pytest
from toy_runs import RECORD, machine, toy_runs

# Another processor or torch rounds otherwise, and training carries that on.
SAME, ELSEWHERE = 1e-6, 5e-2


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patched:
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


def test_the_record_is_of_real_outputs() -> None:
    """An empty or constant array would agree with anything."""
    recorded = dict(np.load(RECORD))
    recorded.pop("machine")
    assert len(recorded) >= 20
    assert all(
        array.size > 1 and np.isfinite(array).all() and np.ptp(array) > 0 for array in recorded.values()
    )
