"""How networks are trained: settings, device and processes, random states, rates of learning."""

import math
import os
import random
from typing import Any, Literal, Self

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from pydantic import Field, model_validator
from torch import nn

from affetto.config import Settings
from affetto.errors import ConfigError
from affetto.models.encoder import Encoder, chosen_device


class TrainSettings(Settings):
    """How the loop trains."""

    epochs: int = Field(30, ge=1)  # passes over the training part
    batch_size: int = Field(32, ge=1)  # utterances on one process, before accumulation
    accumulation: int = Field(1, ge=1)  # batches whose gradients are summed into one step
    learning_rate: float = Field(1e-3, gt=0)  # at its highest
    layer_decay: float = Field(1.0, gt=0, le=1)  # factor on the rate, once more for each block further down
    head_epochs: int = Field(0, ge=0)  # at first, in which encoders do not learn, only what follows them
    weight_decay: float = Field(0.05, ge=0)  # on matrices; never on biases, norms and single scales
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after the warm-up; the first two to zero
    warmup: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the rate rises
    clip: float = Field(2.0, ge=0)  # largest norm of the gradient; 0 for none
    precision: Literal["auto", "full", "bf16", "fp16"] = "auto"  # auto: bf16 where the device is fast at it
    patience: int = Field(0, ge=0)  # epochs without a better score until training stops; 0 for never
    checkpoint_steps: int = Field(500, ge=1)  # between two checkpoints; cheap ones end every epoch too

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head_epochs >= self.epochs:
            raise ValueError(
                f"head_epochs={self.head_epochs} of epochs={self.epochs} leaves none in which the encoder "
                "learns; lower head_epochs, or raise epochs"
            )
        return self


def make_accelerator(settings: TrainSettings, device: str | torch.device = "auto") -> Accelerator:
    """Prepares the device and, under ``torchrun``, the group of processes, each on a GPU of its own."""
    precision, chosen = settings.precision, chosen_device(device)
    on_cuda = chosen.type == "cuda"
    if chosen.index:
        torch.get_device_module(chosen).set_device(chosen)
    if precision == "auto":
        precision = "bf16" if on_cuda and torch.cuda.is_bf16_supported() else "full"
    if precision == "fp16" and not on_cuda:
        raise ConfigError("train.precision=fp16 cannot be used here: it needs a GPU; take auto, full or bf16")
    try:
        accelerator = Accelerator(
            mixed_precision="no" if precision == "full" else precision,
            gradient_accumulation_steps=settings.accumulation,
            cpu=chosen.type == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise ConfigError(f"train.precision={settings.precision} cannot be used here: {error}") from error
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != wanted:
        raise ConfigError(
            f"{wanted} processes were started and {accelerator.num_processes} found each other; "
            "start them with torchrun"
        )
    return accelerator


def seed_everything(seed: int, process: int = 0) -> None:
    """Seeds every random state of this process; each process draws its own."""
    random.seed(seed + 1_000_003 * process)
    np.random.seed((seed + 1_000_003 * process) % 2**32)  # noqa: NPY002  (other libraries draw from it)
    torch.manual_seed(seed + 1_000_003 * process)


def parameter_groups(objective: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Returns what learns, in groups of one weight decay, one factor on the rate, and in or out of encoders.

    A block of an encoder has the factor ``layer_decay`` for each block above it; what is outside of its
    blocks has that of one below them (Clark et al. 2020, "ELECTRA"). What has no blocks has the factor 1.
    """
    blocks_above: dict[nn.Parameter, int] = {}
    for encoder in objective.modules():
        if isinstance(encoder, Encoder):
            blocks = encoder.in_order
            blocks_above |= dict.fromkeys(encoder.parameters(), len(blocks))
            for above, block in enumerate(reversed(blocks)):
                blocks_above |= dict.fromkeys(block.parameters(), above)
    groups: dict[tuple[bool, float, bool], dict[str, Any]] = {}
    for each in objective.parameters():
        if each.requires_grad:
            factor, inside = settings.layer_decay ** blocks_above.get(each, 0), each in blocks_above
            about = {"factor": factor, "encoder": inside}
            about["weight_decay"] = settings.weight_decay if each.ndim > 1 else 0.0
            group = groups.setdefault((inside, factor, each.ndim > 1), {"params": [], **about})
            group["params"].append(each)
    return list(groups.values())


def rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Factor on the learning rate at a step: the warm-up, then the schedule."""
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    place = (step - warmup) / max(1, steps - warmup)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * place))
    return 1 - place if settings.schedule == "linear" else 1.0


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns every random state of this process."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Goes back to what :func:`random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])
