"""What several tests need: a script as a module, and the config of a recogniser that was never trained."""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.models.classifier import EmotionClassifier

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    """Imports a script by its path from the root of the repository, ``"experiments/controls.py"``."""
    file = ROOT / name
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def trees() -> dict[str, ast.Module]:
    """Returns every file of the package as a tree, by its path below ``src``."""
    files = sorted((ROOT / "src").rglob("*.py"))
    return {
        file.relative_to(ROOT / "src").as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
    }


def recogniser_config(classifier: EmotionClassifier) -> dict[str, Any]:
    """Returns what ``finetune`` would write of a classifier."""
    return {
        "class": "EmotionClassifier",
        "affetto_version": "0",
        "classifier": classifier.settings.model_dump(mode="json"),
        "labels": list(classifier.settings.labels),
        "protocol": "speaker-kfold",
        "speaker_dependent": False,
        "manifest_sha256": "0",
        "encoder": "cnn",
        "weights_from_elsewhere": False,
        "speakers_seen": {"with_labels": ["a"], "chosen_on": ["b"]},
        "dev_uar": 0.5,
    }


def encode(file: Path, samples: NDArray[Any], rate: int, codec: str, layout: str = "mono") -> Path:
    """Writes samples ``(S,)`` or ``(channels, S)`` with PyAV; the suffix decides the container."""
    import av

    with av.open(file, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.atleast_2d(samples).astype(np.float32), "fltp", layout)
        frame.sample_rate = rate
        for each in (frame, None):
            container.mux(stream.encode(each))
    return file
