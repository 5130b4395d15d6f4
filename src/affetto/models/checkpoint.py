"""Folders of weights: ``model.safetensors`` beside ``config.json``; nothing is pickled, loading is strict."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from affetto._version import __version__
from affetto.errors import CheckpointError
from affetto.runs import atomic_write, write_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = 1
"""Number of the format of ``config.json``; it changes when older folders can no longer be read."""


def save_weights(folder: Path, module: nn.Module, config: dict[str, Any]) -> None:
    """Writes a module's tensors and the description that rebuilds it, with the number of the format."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"format": FORMAT, "affetto_version": __version__, **config})


def read_config(folder: Path) -> dict[str, Any]:
    """Reads ``config.json``; raises a CheckpointError when it is missing, not JSON, or of another format."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no {CONFIG}; name the folder that finetune wrote") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no mapping")
    if "class" in config and config.get("format") != FORMAT:  # without a class it is not ours
        raise CheckpointError(
            f"{folder / CONFIG} is of format {config.get('format', 'none')}, written by affetto "
            f"{config.get('affetto_version', 'of an unknown version')}; affetto {__version__} reads format "
            f"{FORMAT}; make the folder again with this version, or install the one that wrote it"
        )
    return config


def weights_sha256(module: nn.Module) -> str:
    """Returns a hash over the names and values of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_weights(folder: Path, module: nn.Module) -> None:
    """Fills a module with the tensors of a folder; any that is missing, surplus or misshapen is an error."""
    file = folder / WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{folder} holds no {WEIGHTS}; weights in any other format are not loaded")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is no safetensors file ({error}); pickles are never loaded; copy the folder anew"
        ) from error
    wanted = module.state_dict()
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "surplus": sorted(tensors.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in sorted(wanted.keys() & tensors.keys())
            if tensors[name].shape != wanted[name].shape
        ],
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names]
    if found:
        raise CheckpointError(f"{file} does not fit its config.json; {'; '.join(found)}")
    module.load_state_dict(tensors)
