"""The training loop, on Accelerate: it knows no task, no corpus and no label.

What it saves resumes exactly: weights, optimiser, schedule, sampler and the random state of every process.
"""

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object
from pydantic import Field
from torch import nn

from affetto.config import Settings
from affetto.data import Batch
from affetto.errors import CheckpointError, ConfigError
from affetto.progress import progress
from affetto.runs import STATE, RunFolder, atomic_write


class TrainSettings(Settings):
    """How the loop trains.

    Attributes:
        epochs: passes over the training part.
        batch_size: utterances an optimiser step sees on one process, before accumulation.
        accumulation: batches whose gradients are summed into one step.
        learning_rate: at its highest.
        weight_decay: on matrices; never on biases, norms and single scales.
        schedule: ``"cosine"`` to zero, ``"linear"`` to zero, or ``"constant"``, each after the warm-up.
        warmup: share of the steps in which the rate rises.
        clip: largest norm of the gradient; 0 for none.
        precision: ``"auto"`` takes bfloat16 where the device computes it fast, else full precision.
        patience: epochs without a better score after which training stops; 0 to go on to the end.
        checkpoint_steps: optimiser steps between two checkpoints within an epoch; every epoch ends with one.
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(32, ge=1)
    accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(2.0, ge=0)
    precision: Literal["auto", "full", "bf16", "fp16"] = "auto"
    patience: int = Field(0, ge=0)
    checkpoint_steps: int = Field(500, ge=1)


class Batches(Protocol):
    """A source of batches that can say where it is and go on from there."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]:
        """Returns where the iteration stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where :meth:`state_dict` was taken."""


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Prepares the device and, under ``torchrun``, the group of processes.

    Raises:
        ConfigError: when the device lacks the precision, or the processes did not find each other.
    """
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "full"
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("train.precision=fp16 cannot be used here: it needs a GPU; take auto, full or bf16")
    try:
        accelerator = Accelerator(
            mixed_precision="no" if precision == "full" else precision,
            gradient_accumulation_steps=settings.accumulation,
            cpu=not torch.cuda.is_available(),
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


def fit(
    objective: nn.Module,
    batches: Batches,
    settings: TrainSettings,
    run: RunFolder,
    on_epoch: Callable[[int], float | None] = lambda epoch: None,
    accelerator: Accelerator | None = None,
) -> list[dict[str, Any]]:
    """Trains an objective and leaves it with the weights of its best epoch.

    Args:
        objective: a module that maps a batch to named losses and carries their ``weights``.
        batches: the training part; iterating once is one epoch.
        settings: how to train.
        run: where metrics and checkpoints go; an unfinished checkpoint there is resumed.
        on_epoch: called with the number of each finished epoch; may return a score to maximise on dev.
        accelerator: from :func:`make_accelerator`; None makes one.

    Returns:
        One row an epoch: losses, score, learning rate, utterances a second.

    Raises:
        CheckpointError: for a checkpoint made under other circumstances.
        ConfigError: when a loss is not a number.
    """
    accelerator = accelerator or make_accelerator(settings)
    optimiser = torch.optim.AdamW(_groups(objective, settings), lr=settings.learning_rate)
    weights: dict[str, float] = dict(getattr(objective, "weights", {}))
    model, prepared = accelerator.prepare(objective, optimiser)
    steps = settings.epochs * math.ceil(len(batches) / settings.accumulation)
    loop = _Loop(objective, optimiser, batches, accelerator, run, settings)
    loop.resume()
    while loop.epoch < settings.epochs and not loop.stopped:
        began, seen = time.perf_counter(), 0
        # Where the network writes results after every epoch it may have been left in another mode.
        model.train()
        remaining = len(batches) - loop.batch
        described = f"epoch {loop.epoch + 1}/{settings.epochs}"
        for batch in progress(batches, described, total=remaining):
            batch = batch.to(accelerator.device)
            last = loop.batch + 1 == len(batches)
            accelerator.gradient_state._set_sync_gradients(
                last or (loop.batch + 1) % settings.accumulation == 0
            )
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate(loop.step, steps, settings)
            with accelerator.autocast():
                losses = model(batch)
            total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
            # Accelerate divides by the full number of batches in a step; the last step may have fewer.
            first = loop.batch - loop.batch % settings.accumulation
            total = total * (settings.accumulation / min(settings.accumulation, len(batches) - first))
            if not torch.isfinite(total):
                values = {name: float(loss.detach()) for name, loss in losses.items()}
                raise ConfigError(
                    f"the loss is not a number in {described}: {values}; lower train.learning_rate"
                )
            _backward(accelerator, model, total)
            loop.add(losses)
            seen += len(batch.lengths)
            loop.batch += 1
            if accelerator.sync_gradients:
                if settings.clip:
                    accelerator.clip_grad_norm_(model.parameters(), settings.clip)
                prepared.step()
                prepared.zero_grad()
                loop.step += 1
                if loop.step % settings.checkpoint_steps == 0 and not last:
                    loop.save()
        loop.close_epoch(seen * accelerator.num_processes / (time.perf_counter() - began), on_epoch)
    loop.restore_best()
    accelerator.wait_for_everyone()
    accelerator.free_memory(model, prepared)  # else it would keep the networks of every fold
    return loop.history


class _Loop:
    """Where a training stands: what a checkpoint holds."""

    def __init__(
        self,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        batches: Batches,
        accelerator: Accelerator,
        run: RunFolder,
        settings: TrainSettings,
    ) -> None:
        self.objective, self.optimiser, self.batches = objective, optimiser, batches
        self.accelerator, self.run, self.settings = accelerator, run, settings
        self.epoch, self.batch, self.step, self.stopped = 0, 0, 0, False
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None

    @property
    def file(self) -> Path:
        return self.run / STATE

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(loss.detach())

    def close_epoch(self, speed: float, on_epoch: Callable[[int], float | None]) -> None:
        epoch = self.epoch + 1
        self.objective.eval()
        # Every process goes by the score of the first, so that all of them stop at the same epoch.
        score: float | None = broadcast_object_list([on_epoch(epoch)])[0]
        self.objective.train()
        sums = gather_object([self.sums])
        row: dict[str, Any] = {
            name: sum(other[name] for other in sums) / (self.batch * len(sums)) for name in self.sums
        }
        row = {
            "epoch": epoch,
            **row,
            "score": score,
            "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
            "utterances_per_second": round(speed, 1),
        }
        self.history.append(row)
        if score is not None and (self.best is None or score > self.best["score"]):
            state = {
                name: tensor.detach().cpu().clone() for name, tensor in self.objective.state_dict().items()
            }
            self.best = {"score": score, "epoch": epoch, "weights": state}
        if score is not None and self.best is not None and self.settings.patience:
            self.stopped = epoch - self.best["epoch"] >= self.settings.patience
        if self.accelerator.is_main_process:
            self.run.log(**row)
        self.epoch, self.batch, self.sums = epoch, 0, {}
        self.save()

    def save(self) -> None:
        """Writes everything that the next step depends on, atomically, from the main process."""
        states, sums = gather_object([_random_state()]), gather_object([self.sums])
        if self.accelerator.is_main_process:
            content = {
                "objective": self.objective.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
                "batches": self.batches.state_dict(),
                "random": states,
                "place": {
                    "epoch": self.epoch,
                    "batch": self.batch,
                    "step": self.step,
                    "stopped": self.stopped,
                },
                "sums": sums,
                "history": self.history,
                "best": self.best,
            }
            # Through a file of Python's, whose errors say what is wrong; torch's own hides a full disk.
            with atomic_write(self.file) as temporary, open(temporary, "wb") as handle:
                torch.save(content, handle)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one."""
        if self.file.exists():
            self._load()
        if self.accelerator.is_main_process:
            self.run.rewrite_log(self.history)
        self.accelerator.wait_for_everyone()

    def _load(self) -> None:
        try:
            content = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise CheckpointError(f"{self.file} cannot be read ({error}); remove it to start anew") from error
        states = content["random"]
        if len(states) != self.accelerator.num_processes:
            raise CheckpointError(
                f"{self.file} was made by {len(states)} processes, now there are "
                f"{self.accelerator.num_processes}; start as many, or remove it to start anew"
            )
        self.objective.load_state_dict(content["objective"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.accelerator.scaler and content["scaler"]:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        self.batches.load_state_dict(content["batches"])
        place = content["place"]
        self.epoch, self.batch, self.step = place["epoch"], place["batch"], place["step"]
        self.stopped, self.sums = place["stopped"], content["sums"][self.accelerator.process_index]
        self.history, self.best = content["history"], content["best"]
        _set_random_state(states[self.accelerator.process_index])

    def restore_best(self) -> None:
        """Puts back the weights of the epoch with the best score."""
        if self.best is not None:
            self.objective.load_state_dict(deepcopy(self.best["weights"]))


def _backward(accelerator: Accelerator, model: nn.Module, total: torch.Tensor) -> None:
    if accelerator.sync_gradients:
        accelerator.backward(total)
    else:
        with accelerator.no_sync(model):
            accelerator.backward(total)


def _groups(objective: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Factor on the learning rate at a step: the warm-up, then the schedule."""
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    place = (step - warmup) / max(1, steps - warmup)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * place))
    return 1 - place if settings.schedule == "linear" else 1.0


def _random_state() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": {"version": version, "internal": list(internal), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "rest": [int(position), int(has_gauss), float(cached)],
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["kind"], keys, *numpy["rest"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
