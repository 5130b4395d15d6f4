"""Models of Hugging Face transformers, from a folder or from the hub, with errors that say what to do.

The library is an optional package, imported when the first such model is loaded.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator
from safetensors import SafetensorError
from torch import nn

from affetto.config import Settings
from affetto.errors import CheckpointError, ConfigError, MissingPackageError

# What transformers raises for a model that is not there, damaged, or of an unknown kind.
_FAULTS = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)


def optional(package: str, what: str, install: str) -> Any:
    """Imports an optional package, which ``what`` needs."""
    try:
        return import_module(package)
    except ImportError as error:
        message = f"{what} needs the {package} package; install it with: pip install {install}"
        raise MissingPackageError(message) from error


def library(what: str) -> Any:
    """Returns the transformers package, which ``what`` needs."""
    return optional("transformers", what, "'affetto[transformers]'")


@contextmanager
def loading(name: str, gives: str) -> Iterator[None]:
    """Silences transformers, and words what it raises when ``name`` does not give what it should be."""
    logging = library(gives).utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except _FAULTS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).partition(". ")[0]
        where = "no folder of this name, nor the hub, gives"
        advice = "check the name and the connection, or download the model elsewhere and name its folder"
        if Path(name).is_dir():
            where = "this folder does not give"
            advice = "download what is missing or damaged again, or name another folder"
        raise CheckpointError(f"{name}: {where} {gives} ({reason.rstrip('.')}); {advice}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def published_part(kind: str, name: str, gives: str) -> Any:
    """Returns a part of a model that comes without its weights, by its class of transformers."""
    with loading(name, gives):
        return getattr(library(gives), kind).from_pretrained(name)


def load_weights_of(network: nn.Module, name: str, unused: str, part: str | None = None) -> None:
    """Fills a network with the weights of a model, or of its attribute ``part``.

    Weights with ``unused`` in their name may be absent. The updates that :func:`adapt` adds stay.
    """
    with loading(name, "a model"):
        found, report = library(name).AutoModel.from_pretrained(name, output_loading_info=True)
    if missing := sorted(key for key in report["missing_keys"] if unused not in key):
        raise CheckpointError(f"{name} lacks weights of its own config: {', '.join(missing[:3])}")
    own = {key.replace(".base_layer.", "."): key for key in network.state_dict() if ".lora_" not in key}
    state = (getattr(found, part) if part else found).state_dict()
    if absent := sorted(key for key in own if key not in state):
        raise CheckpointError(f"{name} is of another architecture: it has no {', '.join(absent[:3])}")
    with loading(name, "the model that was asked for"):
        network.load_state_dict({key: state[known] for known, key in own.items()}, strict=False)


class LookedUp(Settings):
    """A published ``model``, whose ``shape`` is looked up unless given: a saved recogniser needs no hub."""

    gives: ClassVar[str]  # what the model should be, for errors

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "shape" in given:
            return given
        name = str(given.get("model", cls.model_fields["model"].default))
        config = published_part("AutoConfig", name, cls.gives)
        shape = json.loads(config.to_json_string(use_diff=True))
        return {**given, "shape": shape, **cls.look_up(name, config)}

    @classmethod
    def look_up(cls, model: str, config: Any) -> dict[str, Any]:
        """Returns further settings of a model; raises a CheckpointError for one of another kind."""
        raise NotImplementedError  # abstract


class Adaptation(Settings):
    """How much of a published encoder learns, where it learns."""

    trained_blocks: int | None = Field(None, ge=0)  # the last so many learn alone; None for everything
    # Rank of low-rank updates to the blocks' feed-forward layers, which then learn alone (Hu et al. 2022,
    # "LoRA"). The attention gets none: WavLM reads its weights without calling its layers.
    lora: int = Field(0, ge=0)
    checkpointing: bool = False  # compute the blocks twice in training and keep less in memory

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lora and self.trained_blocks is not None:
            raise ValueError("either the last blocks learn (trained_blocks) or updates to all of them (lora)")
        return self


def adapt(network: Any, blocks: Sequence[nn.Module], settings: Adaptation, linear: list[str]) -> None:
    """Chooses which parts of a model learn; the names of its feed-forward layers end in ``linear``."""
    if (trained := settings.trained_blocks) is not None:
        if trained > len(blocks):
            raise ConfigError(f"got trained_blocks={trained}; the model has {len(blocks)} blocks")
        network.requires_grad_(False)
        for block in list(blocks)[len(blocks) - trained :]:
            block.requires_grad_(True)
    if settings.lora:
        peft = optional("peft", "lora", "'affetto[lora]'")
        config = peft.LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules=linear)
        peft.inject_adapter_in_model(config, network)
    if settings.checkpointing:
        network.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
