"""Folders of networks that read strength of emotion: what ``annotate intensity`` writes and takes again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affetto._version import __version__
from affetto.config import build
from affetto.errors import CheckpointError, ConfigError
from affetto.intensity.network import StrengthNet, StrengthSettings
from affetto.models.checkpoint import CONFIG, WEIGHTS, load_weights, read_config, save_weights, weights_sha256
from affetto.models.classifier import EmotionClassifier
from affetto.runs import write_text

FOLDER = "strength"
NEUTRAL = "neutral"


def save_strength(folder: Path, network: StrengthNet, config: dict[str, Any]) -> None:
    """Writes a strength folder: weights, config, model card."""
    seen = config["speakers_seen"]
    full = {
        "class": StrengthNet.__name__,
        "affetto_version": __version__,
        "network": network.settings.model_dump(mode="json"),
        "front_end": network.front_end.model_dump(mode="json"),
        **config,
    }
    save_weights(folder, network, full)
    card = (
        f"# How strong an emotion is, by affetto {__version__}\n\n"
        f"Says of every {1000 * network.hop_seconds:g} ms of speech how far it lies above {NEUTRAL}, "
        f"from 0 to "
        f"1. Learned from the labels {', '.join(config['labels'])} of {len(seen['with_labels'])} speakers, "
        "whose names are in config.json: what it says of these speakers is no test.\n\n"
        "Use it: `affetto annotate intensity MANIFEST --model THIS_FOLDER -o RUN`.\n"
    )
    write_text(folder / "README.md", card)


def load_strength(folder: Path) -> tuple[StrengthNet, dict[str, Any]]:
    """Rebuilds the network of a strength folder, strictly, and returns it with its ``config.json``.

    Raises:
        CheckpointError: for a missing or foreign config, and for weights that do not fit it exactly.
    """
    config = read_config(folder)
    if config.get("class") != StrengthNet.__name__:
        raise CheckpointError(
            f"{folder / CONFIG} is of the class {config.get('class')!r}, not {StrengthNet.__name__}; name a "
            f"folder {FOLDER} that affetto annotate intensity wrote"
        )
    try:
        network = StrengthNet(build(StrengthSettings, config["network"]), len(config["labels"]))
        config["speakers_seen"]["with_labels"], config["protocol"], config["centre"]
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no such network: {error}") from error
    load_weights(folder, network)
    return network.eval().requires_grad_(False), config


def find_strength(path: str | Path) -> Path:
    """Returns the strength folder that ``path`` is, or the only one of a run.

    Raises:
        CheckpointError: when there is none, or one a fold.
    """
    path = Path(path)
    if (path / WEIGHTS).exists():
        return path
    found = [file.parent for file in sorted(path.glob(f"fold-*/{FOLDER}/{CONFIG}"))]
    if len(found) != 1:
        there = (
            f"it holds {', '.join(map(str, found))}: name one of these" if found else "there is none in it"
        )
        raise CheckpointError(f"{path} is no folder of one strength network; {there}")
    return found[0]


def networks_sha256(networks: Sequence[StrengthNet | EmotionClassifier]) -> str:
    """Returns a hash over the weights of networks."""
    digest = hashlib.sha256()
    for network in networks:
        digest.update((network.settings.model_dump_json() + weights_sha256(network)).encode())
    return digest.hexdigest()
