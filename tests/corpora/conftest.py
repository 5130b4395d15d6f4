"""A recording in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def record() -> Callable[..., Path]:
    """Writes half a second of a tone (0 Hz is silence); the suffix names the format."""

    def write(
        path: Path, hertz: float = 200.0, level: float = 0.3, seconds: float = 0.5, rate: int = 16000
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        samples = np.clip(level * np.sin(2 * np.pi * hertz * time), -1, 1)
        soundfile.write(path, np.round(32767 * samples).astype(np.int16), rate)
        return path

    return write
