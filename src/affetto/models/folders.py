"""Finds a recogniser folder, here or on the Hugging Face hub."""

import re
from pathlib import Path

from affetto.errors import CheckpointError
from affetto.models.checkpoint import CONFIG, RECOGNISER, WEIGHTS

FILES = (CONFIG, WEIGHTS, "README.md")
"""All that is ever fetched from the hub."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find(name: str | Path, revision: str | None = None) -> Path:
    """Returns the folder of a recogniser; fetches it from the hub where no such folder exists.

    Args:
        name: a folder, of a recogniser or of the run that made one, or a hub id such as ``owner/name``.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: where there is neither, or the hub cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        inside = folder / RECOGNISER
        return folder if (folder / CONFIG).exists() or not inside.is_dir() else inside
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; name the folder that holds {CONFIG} and {WEIGHTS}")
    if isinstance(name, Path) or not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"{folder}: no such folder; name the recogniser folder that finetune wrote, "
            "or a hub id such as owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{name}: no such folder here, and it cannot be fetched from the Hugging Face hub ({reason}); "
            "check the name and the connection, or copy the recogniser folder here and name that"
        ) from error
