"""Models of Hugging Face transformers: found here or on the hub, quietly, with errors that say what to do.

The library is an optional package, imported when the first such model is asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from affetto.errors import CheckpointError, MissingPackageError

FAULTS = (OSError, ValueError, KeyError, RuntimeError)
"""What transformers raises for a model that is not there, damaged, or of an unknown kind."""


def library(what: str) -> Any:
    """Returns the transformers package.

    Args:
        what: is to be made with it.

    Raises:
        MissingPackageError: with the install line.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(
            f"{what} needs the transformers package; install it with: pip install 'affetto[transformers]'"
        ) from error
    return transformers


def published(name: str, gives: str, unused: str) -> dict[str, Tensor]:
    """Returns the weights that a model's folder or the hub holds.

    Args:
        name: a folder, or a model of the hub.
        gives: what it should be, e.g. ``"a text encoder"``.
        unused: part of the names of weights that may be absent.

    Raises:
        CheckpointError: where there are none, or some are absent.
    """
    try:
        with quiet():
            network, report = library(gives).AutoModel.from_pretrained(name, output_loading_info=True)
    except FAULTS as error:
        raise not_there(name, gives, error) from error
    missing = sorted(key for key in report["missing_keys"] if unused not in key)
    if missing:
        raise CheckpointError(f"{name} lacks weights of its own config: {', '.join(missing[:3])}")
    return dict(network.state_dict())


def not_there(name: str, gives: str, error: Exception) -> CheckpointError:
    """Returns the error for a model that could not be loaded."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    where = (
        "this folder does not give" if Path(name).is_dir() else "no folder of this name, nor the hub, gives"
    )
    return CheckpointError(
        f"{name}: {where} {gives} ({reason}); check the name and the connection, or download the model "
        "elsewhere and name its folder"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from reporting what is said here in fewer words."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
