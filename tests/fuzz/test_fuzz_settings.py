"""Damaged settings, protocols and experiments, and damaged recogniser folders, give one AffettoError."""

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from changes import Change, changed, changes, fuzzed, sound
from hypothesis import strategies as st
from safetensors.torch import load, save

from affetto import Recogniser
from affetto.config import build, dump, read
from affetto.errors import AffettoError, CheckpointError, ConfigError
from affetto.experiment.run import Experiment, check
from affetto.finetuning.run import save_recogniser
from affetto.finetuning.settings import finetune_settings
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.pretraining.settings import pretrain_settings
from affetto.protocols.protocol import load_protocol
from helpers import ROOT, recogniser_config

NETWORK = {
    "embedder": {"name": "network", "encoder": {"name": "cnn", "width": 8, "blocks": 1, "bins": 16}},
    "labels": ("anger", "neutral"),
    "enrolment": True,
}


def _protocol(file: Path) -> None:
    load_protocol(file)


def _finetune(file: Path) -> None:
    finetune_settings(**read(file))


def _pretrain(file: Path) -> None:
    pretrain_settings(**read(file))


def _experiment(file: Path) -> None:
    from affetto.cli.options import trainer

    check(build(Experiment, read(file)), trainer)


def _text(name: str) -> bytes:
    return (ROOT / name).read_bytes()


YAML: dict[str, tuple[Callable[[Path], None], bytes]] = {
    "protocol": (_protocol, _text("src/affetto/protocols/emodb-7-loso10.yaml")),
    "finetune": (_finetune, dump(finetune_settings(protocol="speaker-kfold", encoder="cnn")).encode()),
    "pretrain": (_pretrain, dump(pretrain_settings()).encode()),
    "experiment": (_experiment, _text("experiments/crema-d-6-emosuperb5-votes.yaml")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.mark.parametrize("name", YAML)
def test_whole_settings_are_taken(name: str, folder: Path) -> None:
    use, content = YAML[name]
    file = folder / "whole.yaml"
    file.write_bytes(content)
    use(file)


@fuzzed(120, name=st.sampled_from(sorted(YAML)), other=st.sampled_from(sorted(YAML)), done=changes())
def test_damaged_settings_are_settings_or_an_error(
    folder: Path, name: str, other: str, done: list[Change]
) -> None:
    use, content = YAML[name]
    file = folder / "settings.yaml"
    file.write_bytes(changed(content, done, YAML[other][1]))
    with suppress(AffettoError):
        use(file)


def test_a_few_lines_that_stand_for_billions_are_refused(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{number}: &a{number} [{', '.join(8 * [f'*a{number - 1}'])}]" for number in range(1, 12)]
    file = folder / "bomb.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match="stand for"):
        read(file)
    file.write_text("a: &a [*a]", encoding="utf-8")
    with pytest.raises(ConfigError, match="no YAML that can be used"):
        read(file)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A very small recogniser, never trained."""
    torch.manual_seed(0)
    network = EmotionClassifier(build(ClassifierSettings, NETWORK))
    save_recogniser(folder / "whole", network, recogniser_config(network), False)
    return folder / "whole"


ODD: st.SearchStrategy[Any] = st.sampled_from(
    (
        None,
        True,
        -1,
        0,
        10**6,
        1e308,
        float("nan"),
        "",
        "x",
        "1",
        "cnn",
        [],
        {},
        ["a", "a"],
        [[]],
        {"name": "tdnn"},
    )
)


def _odd(value: Any, path: list[int], odd: Any, delete: bool) -> Any:
    """Returns JSON with another value, or none, at one place."""
    if isinstance(value, dict | list) and value and path:
        names = list(value) if isinstance(value, dict) else list(range(len(value)))
        name = names[path[0] % len(names)]
        copy: Any = value.copy()
        if delete and len(path) == 1:
            del copy[name]
        else:
            copy[name] = _odd(value[name], path[1:], odd, delete)
        return copy
    return odd


def _other_tensor(tensor: torch.Tensor, way: int) -> torch.Tensor:
    """Returns a tensor of another shape, type or content."""
    return (
        lambda: tensor.flatten(),
        lambda: tensor[None],
        lambda: tensor.flatten()[:0],
        lambda: tensor.double(),
        lambda: tensor.to(torch.int8),
        lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor - 9,
        lambda: torch.full_like(tensor, float("inf")) if tensor.is_floating_point() else tensor,
        lambda: tensor * 1e30,
        lambda: torch.zeros_like(tensor),
    )[way % 9]()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float, folder: Path, whole: Path) -> None:
    tensors = load((whole / "model.safetensors").read_bytes())
    tensors["head.linear.weight"][0, 0] = bad
    damaged = folder / "no-numbers"
    damaged.mkdir(exist_ok=True)
    (damaged / "config.json").write_bytes((whole / "config.json").read_bytes())
    (damaged / "model.safetensors").write_bytes(save(tensors))
    with pytest.raises(CheckpointError, match=r"NaN or infinite: head\.linear\.weight"):
        Recogniser.from_pretrained(damaged)


@fuzzed(
    80,
    kind=st.sampled_from(("config", "bytes", "header", "tensors", "missing")),
    path=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    odd=ODD,
    number=st.integers(0, 1 << 16),
    done=changes(3),
)
def test_a_damaged_recogniser_answers_or_is_refused(
    folder: Path, whole: Path, kind: str, path: list[int], odd: Any, number: int, done: list[Change]
) -> None:
    config, weights = (whole / "config.json").read_bytes(), (whole / "model.safetensors").read_bytes()
    tensors = load(weights)
    name = sorted(tensors)[number % len(tensors)]
    if kind == "config":
        config = json.dumps(_odd(json.loads(config), path, odd, number % 3 == 0)).encode()
    elif kind == "bytes":
        config, weights = (changed(config, done), weights) if number % 2 else (config, changed(weights, done))
    elif kind == "header":
        size = struct.unpack("<Q", weights[:8])[0]
        header = changed(weights[8 : 8 + size], done)
        weights = struct.pack("<Q", len(header)) + header + weights[8 + size :]
    elif kind == "tensors":
        tensors[name] = _other_tensor(tensors[name], number // 64).contiguous()
        weights = save(tensors)
    else:
        del tensors[name]
        weights = save(tensors)
    damaged = folder / "damaged"
    damaged.mkdir(exist_ok=True)
    (damaged / "config.json").write_bytes(config)
    (damaged / "model.safetensors").write_bytes(weights)
    with suppress(AffettoError):
        recogniser = Recogniser.from_pretrained(damaged, device="cpu", any_sound=True)
        scores = recogniser.from_audio(sound())
        assert sum(each["score"] for each in scores) == pytest.approx(1, abs=1e-3)
