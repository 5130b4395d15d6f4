"""A server in this process, over the smallest recogniser that comes with affetto."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from affetto import Manifest, Recogniser
from affetto.audio import decode

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from affetto.serving.app import routed
from affetto.serving.service import Service
from servers import serving


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    return Recogniser.from_pretrained("small", device="cpu", any_sound=True)


@pytest.fixture(scope="session")
def sound(corpus: Manifest) -> NDArray[np.float32]:
    """5.05 s of toy speech at 16 kHz, as 16 bits hold it."""
    joined = np.concatenate([decode(corpus.path(row)) for row in range(8)])[: 16_000 * 5 + 777]
    return np.rint(joined * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.fixture(scope="session")
def wav(sound: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sound") / "speech.wav"
    soundfile.write(file, sound, 16_000)
    return file


@pytest.fixture
def service(recogniser: Recogniser) -> Iterator[Service]:
    with serving(recogniser) as made:
        yield made


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(routed(service, None))
