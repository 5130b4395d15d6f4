"""The training loop, on Accelerate, for any task. A resumed run equals an uninterrupted one bit for bit."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from affetto.data import Batch, Loader
from affetto.errors import CheckpointError, ConfigError, some
from affetto.optimising import (
    TrainSettings,
    make_accelerator,
    parameter_groups,
    random_state,
    rate,
    set_random_state,
)
from affetto.progress import progress
from affetto.runs import STATE, RunFolder, atomic_write

_PLACE = ("epoch", "batch", "step", "stopped", "history", "best")  # of a training, the same in every process
_CHEAP = 0.5  # seconds; a checkpoint that takes no longer is made after every epoch
_TOGETHER = 50  # steps whose losses are read at once: reading waits for the device


def fit(
    objective: nn.Module,
    batches: Loader,
    settings: TrainSettings,
    run: RunFolder,
    on_epoch: Callable[[int], float | None] = lambda epoch: None,
    accelerator: Accelerator | None = None,
) -> list[dict[str, Any]]:
    """Trains an objective, leaves it with the weights of its best epoch, and returns a row of each epoch.

    Args:
        objective: a module that maps a batch to named losses and has their ``weights``.
        batches: the training part; iterating once is one epoch.
        settings: how to train.
        run: where metrics and checkpoints go; a checkpoint there is resumed.
        on_epoch: called with the number of each finished epoch; may return a score to maximise on dev.
        accelerator: from :func:`make_accelerator`.
    """
    accelerator = accelerator or make_accelerator(settings)
    loop = _Loop(objective, batches, accelerator, run, settings)
    loop.resume()
    while loop.epoch < settings.epochs and not loop.stopped:
        loop.model.train()  # on_epoch may have left it in another mode
        described = f"epoch {loop.epoch + 1}/{settings.epochs}"
        try:
            for batch in progress(batches, described, total=len(batches) - loop.batch):
                loop.train_on(batch.to(accelerator.device))
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{accelerator.device} lacks memory for batches of {settings.batch_size} utterances; "
                "lower train.batch_size, and raise train.accumulation as much for steps of the same size"
            ) from error
        loop.close_epoch(on_epoch)
    if loop.best is not None:
        loop.put_back(loop.best["weights"])
    accelerator.wait_for_everyone()
    accelerator.free_memory(loop.model, loop.prepared)  # else it would keep the networks of every fold
    return loop.history


class _Loop:
    """A training and its position: what a checkpoint holds."""

    def __init__(
        self,
        objective: nn.Module,
        batches: Loader,
        accelerator: Accelerator,
        run: RunFolder,
        settings: TrainSettings,
    ) -> None:
        self.objective, self.batches, self.accelerator = objective, batches, accelerator
        self.run, self.settings, self.file = run, settings, run / STATE
        self.learned = [each for each in objective.parameters() if each.requires_grad]
        groups = parameter_groups(objective, settings)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.model, self.prepared = accelerator.prepare(objective, self.optimiser)
        self.weights: dict[str, float] = dict(getattr(objective, "weights", {}))
        self.steps = settings.epochs * math.ceil(len(batches) / settings.accumulation)
        self.epoch, self.batch, self.step, self.stopped = 0, 0, 0, False
        self.sums: dict[str, float] = {}
        self.unread: dict[str, Tensor] = {}  # sums of the last steps, still on the device
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.saved, self.saving = time.perf_counter(), 0.0  # when there was a checkpoint; how long it took

    def train_on(self, batch: Batch) -> None:
        """Adds the gradient of a batch, and takes a step where enough are summed; waits for no result."""
        settings, accelerator, count = self.settings, self.accelerator, len(self.batches)
        last = self.batch + 1 == count
        accelerator.gradient_state._set_sync_gradients(last or (self.batch + 1) % settings.accumulation == 0)
        highest = settings.learning_rate * rate(self.step, self.steps, settings)
        for group in self.optimiser.param_groups:
            waits = group["encoder"] and self.epoch < settings.head_epochs
            group["lr"] = 0.0 if waits else highest * group["factor"]
        with accelerator.autocast():
            losses = self.model(batch)
        total = torch.stack([self.weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        # Accelerate divides by the full number of batches in a step; the last step may have fewer.
        first = self.batch - self.batch % settings.accumulation
        total = total * (settings.accumulation / min(settings.accumulation, count - first))
        with nullcontext() if accelerator.sync_gradients else accelerator.no_sync(self.model):
            accelerator.backward(total)
        for name, loss in losses.items():
            self.unread[name] = self.unread[name] + loss.detach() if name in self.unread else loss.detach()
        self.batch += 1
        if accelerator.sync_gradients:
            if settings.clip:
                accelerator.clip_grad_norm_(self.model.parameters(), settings.clip)
            self.prepared.step()
            self.prepared.zero_grad()
            self.step += 1
            if self.step % settings.checkpoint_steps == 0 and not last:
                self.save()
        if self.batch % _TOGETHER == 0:
            self.read_losses()

    def read_losses(self) -> None:
        """Adds up the losses of the last steps; a ConfigError says that one, or a weight, is not a number."""
        names, self.unread, unread = list(self.unread), {}, list(self.unread.values())
        values = dict(zip(names, torch.stack(unread).tolist(), strict=True)) if names else {}
        finite = torch.stack([each.detach().isfinite().all() for each in self.learned]).all()
        if not all(math.isfinite(value) for value in values.values()) or not finite:
            place = f"epoch {self.epoch + 1}/{self.settings.epochs}"
            raise ConfigError(f"the loss is not a number in {place}: {values}; lower train.learning_rate")
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def close_epoch(self, on_epoch: Callable[[int], float | None]) -> None:
        """Scores and logs an epoch, keeps the best weights, and saves."""
        epoch = self.epoch + 1
        self.read_losses()
        self.objective.eval()
        # All processes take what the first says, so that they stop and save at the same epoch.
        decided: list[Any] = broadcast_object_list([on_epoch(epoch), self._worth_saving(epoch)])
        score: float | None = decided[0]
        self.objective.train()
        sums = gather_object([self.sums])
        means = {name: sum(other[name] for other in sums) / (self.batch * len(sums)) for name in self.sums}
        row: dict[str, Any] = {"epoch": epoch, **means, "score": score}
        row["learning_rate"] = float(max(group["lr"] for group in self.optimiser.param_groups))
        self.history.append(row)
        if score is not None and (self.best is None or score > self.best["score"]):
            kept = {name: value.cpu().clone() for name, value in _without_frozen(self.objective).items()}
            self.best = {"score": score, "epoch": epoch, "weights": kept}
        if score is not None and self.best is not None and self.settings.patience:
            self.stopped = epoch - self.best["epoch"] >= self.settings.patience
        if self.accelerator.is_main_process:
            self.run.log(**row)
        self.epoch, self.batch, self.sums = epoch, 0, {}
        if decided[1] or self.stopped:
            self.save()

    def _worth_saving(self, epoch: int) -> bool:
        """Whether a checkpoint takes little time against what was trained since the last one."""
        since = time.perf_counter() - self.saved
        return epoch == self.settings.epochs or self.saving < _CHEAP or since > 10 * self.saving

    def save(self) -> None:
        """Writes everything that the next step depends on, atomically, from the main process."""
        began = time.perf_counter()
        self.read_losses()
        own = {"random": random_state(self.accelerator.device), "sums": self.sums}
        processes = gather_object([own])
        if self.accelerator.is_main_process:
            content = {
                "objective": _without_frozen(self.objective),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
                "batches": self.batches.state_dict(),
                "processes": processes,
                **{name: getattr(self, name) for name in _PLACE},
            }
            with atomic_write(self.file) as temporary, open(temporary, "wb") as handle:
                try:
                    torch.save(content, handle)
                except RuntimeError as error:  # with which torch may hide that of a full disk
                    raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        self.accelerator.wait_for_everyone()
        self.saved, self.saving = time.perf_counter(), time.perf_counter() - began

    def put_back(self, weights: dict[str, Tensor]) -> None:
        """Loads weights of :func:`_without_frozen`: all but the frozen ones must be there, and no other."""
        here = {(name, tensor.shape) for name, tensor in _without_frozen(self.objective).items()}
        if wrong := here ^ {(name, tensor.shape) for name, tensor in weights.items()}:
            names = some(name for name, _ in wrong)
            raise CheckpointError(f"{self.file} does not fit in {names}; remove it to start anew")
        self.objective.load_state_dict(weights, strict=False)

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
        processes = content["processes"]
        if len(processes) != self.accelerator.num_processes:
            raise CheckpointError(
                f"{self.file} was made by {len(processes)} processes, now there are "
                f"{self.accelerator.num_processes}; start as many, or remove it to start anew"
            )
        self.put_back(content["objective"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.accelerator.scaler and content["scaler"]:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        self.batches.load_state_dict(content["batches"])
        for name in _PLACE:
            setattr(self, name, content[name])
        self.sums = processes[self.accelerator.process_index]["sums"]
        set_random_state(processes[self.accelerator.process_index]["random"], self.accelerator.device)


def _without_frozen(objective: nn.Module) -> dict[str, Tensor]:
    # A frozen encoder may be far larger than what is trained on it, and a resumed run loads it anyway.
    frozen = {name for name, value in objective.named_parameters() if not value.requires_grad}
    return {name: value for name, value in objective.state_dict().items() if name not in frozen}
