"""Folders of weights: ``model.safetensors`` and ``config.json``; nothing is pickled, loading is strict.

Recognisers have such a folder, here or on the Hugging Face hub, and so have pretrained encoders.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from affetto._version import __version__
from affetto.errors import CheckpointError
from affetto.models.encoder import Encoder
from affetto.runs import atomic_write, read_json, write_json, write_text, writing

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = 1  # of config.json; it changes when older folders can no longer be read
RECOGNISER = "recogniser"  # folder within the run, or the index, that has a recogniser
ENCODER = "encoder"  # folder of an encoder within the seed and fold of a run
TEXT = "text"  # folder of a text encoder within a recogniser that it was trained with
SHIPPED = ("small", "base")
"""Recognisers that come with affetto, by name."""
SHIPPED_FOLDER = Path(__file__).parents[1] / "recognisers"
WITHOUT_GE2E = "without-ge2e"  # folder within a recogniser that has one for who lacks Resemblyzer
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def save_weights(
    folder: Path, module: nn.Module, config: dict[str, Any], elsewhere: Sequence[str] = ()
) -> None:
    """Writes a module's tensors and the description that rebuilds it, with the number of the format.

    The tensors of the parts ``elsewhere`` are left out.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _own(module, elsewhere).items()}
    with atomic_write(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"format": FORMAT, "affetto_version": __version__, **config})


def _own(module: nn.Module, elsewhere: Sequence[str]) -> dict[str, Tensor]:
    """Returns the tensors of a module that are of none of the parts ``elsewhere``."""
    parts = tuple(f"{part}." for part in elsewhere)
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(parts)}


def read_config(folder: Path) -> dict[str, Any]:
    """Reads ``config.json``; raises a CheckpointError when it is missing, not JSON, or of another format."""
    try:
        config = read_json(folder / CONFIG)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no {CONFIG}; name the folder that finetune wrote") from error
    except (OSError, ValueError, RecursionError) as error:
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


def load_weights(folder: Path, module: nn.Module, elsewhere: Sequence[str] = ()) -> None:
    """Fills a module with the tensors of a folder; one missing, surplus, misshapen or NaN is an error.

    The parts ``elsewhere`` stay as they are.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{folder} holds no {WEIGHTS}; weights in any other format are not loaded")
    fill(module, read_tensors(file), file, elsewhere)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Reads a safetensors file."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is no safetensors file ({error}); pickles are never loaded; copy the folder anew"
        ) from error


def fill(module: nn.Module, tensors: Mapping[str, Tensor], file: Path, elsewhere: Sequence[str] = ()) -> None:
    """Fills a module with the tensors of a file; see :func:`load_weights`."""
    wanted = _own(module, elsewhere)
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "surplus": sorted(tensors.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in sorted(wanted.keys() & tensors.keys())
            if tensors[name].shape != wanted[name].shape
        ],
        "NaN or infinite": sorted(name for name in wanted.keys() & tensors.keys() if _broken(tensors[name])),
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names]
    if found:
        raise CheckpointError(f"{file} does not fit its config.json; {'; '.join(found)}")
    module.load_state_dict(tensors, strict=False)  # all that is wanted was found


def _broken(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(tensor.isfinite().all())


def find_recogniser(name: str | Path, revision: str | None = None) -> Path:
    """Returns the folder of a recogniser, or the one in a run; fetches a hub id where there is no folder.

    A text that is one of ``SHIPPED`` means that recogniser, whatever folders there are; a path is a folder.
    """
    if name in SHIPPED:
        return _shipped(str(name))
    folder = Path(name)
    if folder.is_dir():
        inside = folder / RECOGNISER
        return folder if (folder / CONFIG).exists() or not inside.is_dir() else inside
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; name the folder that holds {CONFIG} and {WEIGHTS}")
    if isinstance(name, Path) or not HUB_ID.fullmatch(name):
        message = "name the recogniser folder that finetune wrote, or a hub id such as owner/name"
        raise CheckpointError(f"{folder}: no such folder; {message}, or {' or '.join(SHIPPED)}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    fetched = [CONFIG, WEIGHTS, "README.md", f"{TEXT}/*"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=fetched))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{name}: no such folder here, and it cannot be fetched from the Hugging Face hub ({reason}); "
            "check the name and the connection, or copy the recogniser folder here and name that"
        ) from error


def _shipped(name: str) -> Path:
    """Returns the folder of a recogniser that comes with affetto, for the packages that there are."""
    folder = SHIPPED_FOLDER / name
    try:
        distribution("Resemblyzer")
    except PackageNotFoundError:
        return folder / WITHOUT_GE2E if (folder / WITHOUT_GE2E).is_dir() else folder
    return folder


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder in place of another, all of it or nothing."""
    partial = target.with_name(f".{target.name}.part")
    with writing(target):
        shutil.rmtree(partial, ignore_errors=True)
        for file in sorted(source.rglob("*")):
            copy = partial / file.relative_to(source)
            (copy if file.is_dir() else copy.parent).mkdir(parents=True, exist_ok=True)
            if not file.is_dir():
                shutil.copyfile(file, copy)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def save_encoder(folder: Path, encoder: Encoder, config: dict[str, Any]) -> None:
    """Writes an encoder folder: weights, config, model card."""
    seen = config["speakers_seen"]
    save_weights(folder, encoder, {"class": "Encoder", **config})
    card = (
        f"# A pretrained encoder of affetto {__version__}\n\n"
        f"`{config['encoder']['name']}`, pretrained by {config['objective']} "
        f"({', '.join(config['tasks'])}); groups: {config['groups'] or 'none'}.\n\n"
        f"Speakers in training without labels: {len(seen['without_labels'])}; with labels: "
        f"{len(seen['with_labels'])}. Their names are in config.json.\n\n"
        "Start a recogniser from it: `affetto finetune --encoder THIS_FOLDER`.\n"
    )
    write_text(folder / "README.md", card)


def fill_encoder(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """Fills an encoder with the weights of a folder, strictly, and returns the folder's config."""
    config = read_config(folder)
    load_weights(folder, encoder)
    return config


def find_encoder(path: str | Path, protocol: str | None = None, seed: int = 0, fold: int = 1) -> Path:
    """Returns the encoder folder that ``path`` is, or the right one of a run of ``pretrain``.

    For the run's own protocol that is the one of the seed and fold, pretrained without that fold's dev and
    test speakers; else the first fold of the same seed, or of the first seed.
    """
    path = Path(path)
    if (path / WEIGHTS).exists():
        return path
    found = sorted(config.parent for config in path.glob(f"seed-*/fold-*/{ENCODER}/{CONFIG}"))
    if not found:
        message = "it holds neither model.safetensors nor finished runs of affetto pretrain"
        raise CheckpointError(f"{path} is no pretrained encoder: {message}")
    if protocol is not None and protocol == read_config(found[0]).get("protocol"):
        exact = path / f"seed-{seed}" / f"fold-{fold}" / ENCODER
        if not exact.exists():
            message = f"holds no encoder of seed {seed} and fold {fold}; run affetto pretrain with that seed"
            raise CheckpointError(f"{path} {message}")
        return exact
    same_seed = [folder for folder in found if folder.is_relative_to(path / f"seed-{seed}")]
    return (same_seed or found)[0]


def encoder_settings(path: str | Path) -> dict[str, Any]:
    """Returns the settings of the encoder in a folder, as :mod:`affetto.models.embedders` builds it."""
    folder = find_encoder(path)
    settings: Any = read_config(folder).get("encoder")
    if not isinstance(settings, dict):
        message = "holds no pretrained encoder; name a folder that affetto pretrain wrote"
        raise CheckpointError(f"{folder} {message}")
    return settings


def published_encoder(path: str | Path) -> dict[str, Any] | None:
    """Returns the settings of the encoder in a folder of Hugging Face transformers; None elsewhere."""
    folder = Path(path)
    config = read_config(folder) if (folder / CONFIG).is_file() else {}
    if "class" in config or "model_type" not in config:
        return None
    kind = config["model_type"]  # one that is no encoder of speech is refused by the second of them
    return {"name": "whisper" if kind == "whisper" else "wav2vec2", "model": str(folder)}


def speakers_seen(config: Mapping[str, Any], kind: str, called: Mapping[str, str]) -> list[str]:
    """Returns the speakers that an encoder was trained on, as a run on a manifest calls them.

    ``called`` has the run's name of each ``corpus/speaker`` of its manifest; speakers of other corpora keep
    their full name.
    """
    # Where a corpus has no name on one side, the speaker's own id decides: better one speaker too many.
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
