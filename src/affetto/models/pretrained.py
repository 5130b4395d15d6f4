"""Folders of pretrained encoders: what ``pretrain`` writes and ``finetune`` starts from."""

import json
from pathlib import Path
from typing import Any

from affetto._version import __version__
from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError
from affetto.material.recordings import speaker_names
from affetto.models.checkpoint import load_weights, read_config, save_weights
from affetto.models.encoder import Encoder
from affetto.runs import write_text

ENCODER = "encoder"


def save_encoder(folder: Path, encoder: Encoder, config: dict[str, Any]) -> None:
    """Writes an encoder folder: weights, config, model card."""
    seen = config["speakers_seen"]
    config = {"class": "Encoder", "affetto_version": __version__, **config}
    save_weights(folder, encoder, config)
    card = (
        f"# A pretrained encoder of affetto {__version__}\n\n"
        f"`{config['encoder']['name']}`, pretrained by {config['objective']} "
        f"({', '.join(config['tasks'])}); groups: {config['groups'] or 'none'}.\n\n"
        f"Speakers heard without labels: {len(seen['without_labels'])}; with labels: "
        f"{len(seen['with_labels'])}. Their names are in config.json.\n\n"
        "Start a recogniser from it: `affetto finetune --encoder THIS_FOLDER`.\n"
    )
    write_text(folder / "README.md", card)


def load_encoder(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """Fills an encoder with the weights of a folder, strictly, and returns the folder's config."""
    config = read_config(folder)
    load_weights(folder, encoder)
    return config


def find_encoder(path: str | Path, protocol: str | None = None, seed: int = 0, fold: int = 1) -> Path:
    """Returns the encoder folder that ``path`` is, or the right one of a run of ``pretrain``.

    A run of the same protocol has an encoder a seed and fold, each pretrained without that fold's dev and
    test speakers. For another protocol or corpus, the first fold of the same seed stands in, or of the
    first seed.

    Raises:
        CheckpointError: when there is none.
    """
    path = Path(path)
    if (path / "model.safetensors").exists():
        return path
    found = sorted(path.glob(f"seed-*/fold-*/{ENCODER}/config.json"))
    if not found:
        raise CheckpointError(
            f"{path} is no pretrained encoder: it holds neither model.safetensors nor finished runs of "
            "affetto pretrain"
        )
    made_for = read_config(found[0].parent).get("protocol")
    exact = path / f"seed-{seed}" / f"fold-{fold}" / ENCODER
    if protocol is not None and made_for == protocol:
        if not exact.exists():
            raise CheckpointError(
                f"{path} holds no encoder of seed {seed} and fold {fold}; run affetto pretrain with that seed"
            )
        return exact
    same_seed = sorted(path.glob(f"seed-{seed}/fold-*/{ENCODER}/config.json"))
    return (same_seed or found)[0].parent


def heard(config: dict[str, Any], manifest: Manifest, kind: str) -> list[str]:
    """Returns the speakers that an encoder heard, as a run on a manifest calls them.

    Speakers of other corpora keep their full name. Where a corpus has no name on one side, the speaker's own
    id decides: rather one too many is refused than one too few.

    Args:
        config: of the encoder folder, whose speakers are ``corpus/speaker``.
        manifest: the utterances of the run.
        kind: ``"with_labels"`` or ``"without_labels"``.
    """
    called = dict(zip(manifest.owners, speaker_names(manifest).tolist(), strict=True))
    found: set[str] = set()
    for name in config["speakers_seen"][kind]:
        corpus, _, own = name.partition("/")
        alike = {
            shown
            for owner, shown in called.items()
            if owner.partition("/")[2] == own and (not corpus or owner.startswith("/"))
        }
        found |= {called[name]} if name in called else alike or {name}
    return sorted(found)


def encoder_settings(path: str | Path) -> dict[str, Any]:
    """Returns the settings of the encoder in a folder, as :mod:`affetto.models.embedders` builds it.

    Raises:
        CheckpointError: where there is none, but a recogniser or something else.
    """
    folder = find_encoder(path)
    settings: Any = json.loads(json.dumps(read_config(folder).get("encoder")))
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{folder} holds no pretrained encoder; name a folder that affetto pretrain wrote"
        )
    return settings
