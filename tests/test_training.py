"""The loop: schedules, accumulation, early stop, the best epoch, and going on as if nothing had happened."""

import json
import math
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from affetto.data import Batch
from affetto.errors import CheckpointError, ConfigError, RunError
from affetto.optimising import TrainSettings, make_accelerator, rate, seed_everything
from affetto.runs import RunFolder
from affetto.training import STATE, fit


class Task(nn.Module):
    """Regression with dropout and noise from every random source, so that each has to be resumed."""

    def __init__(self, noise: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = {"error": 1.0, "size": 0.01}
        self.noise = noise
        self.layer = nn.Linear(4, 1)
        self.dropout = nn.Dropout(0.3 if noise else 0.0)
        self.seen: list[list[int]] = []
        self.fail_at: int | None = None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.fail_at is not None and len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append(batch.index.tolist())
        values = self.dropout(batch.values)
        if self.noise:
            values = values + random.random() + float(np.random.random()) + torch.rand(())  # noqa: NPY002
        error = (self.layer(values).squeeze(1) - batch.columns["target"]).square().mean()
        return {"error": error, "size": self.layer.weight.square().sum()}


class Source:
    """Batches of a small table, in another order every epoch."""

    def __init__(self, size: int, rows: int = 12) -> None:
        generator = torch.Generator().manual_seed(3)
        self.values = torch.randn(rows, 4, generator=generator)
        self.target = self.values @ torch.tensor([1.0, -2.0, 0.5, 0.0])
        self.size, self.rows, self.epoch, self.position = size, rows, 0, 0

    def __len__(self) -> int:
        return math.ceil(self.rows / self.size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.epoch))
        for rows in order.split(self.size)[self.position :]:
            self.position += 1
            yield Batch(self.values[rows], torch.full((len(rows),), 4), rows, {"target": self.target[rows]})
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


SETTINGS = TrainSettings(epochs=4, learning_rate=0.05, checkpoint_steps=2)


def train(
    folder: Path,
    task: Task | None = None,
    settings: TrainSettings = SETTINGS,
    size: int = 3,
    scores: list[float] | None = None,
    rows: int = 12,
) -> tuple[Task, list[dict[str, Any]]]:
    task = task or Task()
    seed_everything(5)
    score = (lambda epoch: scores[epoch - 1]) if scores else (lambda epoch: float(np.random.random()))  # noqa: NPY002
    history = fit(task, Source(size, rows), settings, RunFolder(folder), score)
    return task, history


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(autouse=True)
def _checkpoints_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that where a run goes on does not depend on how busy the machine is."""
    monkeypatch.setattr("affetto.training._CHEAP", math.inf)


def test_dear_checkpoints_are_made_more_rarely_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"checkpoint_steps": 500})
    straight, history = train(tmp_path / "straight", settings=settings)
    times = iter(range(0, 10_000_000, 1000))  # the clock is never faster than a checkpoint
    monkeypatch.setattr("affetto.training._CHEAP", -1.0)
    monkeypatch.setattr("affetto.training.time.perf_counter", lambda: float(next(times)))
    stopped = Task()
    stopped.fail_at = 15
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stopped, settings)
    resumed, again = train(tmp_path / "stopped", settings=settings)
    assert equal(straight, resumed)
    assert again == history
    assert len(resumed.seen) == 16 - 4  # only the first epoch ended with one


# 4 batches an epoch, a checkpoint after steps 2, 4 (the end of the epoch), 6, ...
@pytest.mark.parametrize("stop", [1, 3, 4, 7, 8, 15])
def test_stop_and_resume_is_the_straight_run_bit_for_bit(tmp_path: Path, stop: int) -> None:
    straight, history = train(tmp_path / "straight")
    stopped = Task()
    stopped.fail_at = stop
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stopped)
    resumed, again = train(tmp_path / "stopped")
    assert equal(straight, resumed)
    assert again == history
    assert logged(tmp_path / "stopped") == history
    # It went on, instead of starting anew.
    assert len(resumed.seen) == 16 - 2 * (stop // 2)
    assert resumed.seen == straight.seen[2 * (stop // 2) :]


def test_resuming_a_finished_training_does_nothing(tmp_path: Path) -> None:
    first, history = train(tmp_path)
    second, again = train(tmp_path)
    assert equal(first, second)
    assert again == history
    assert second.seen == []


def test_a_damaged_checkpoint_or_one_of_more_processes_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    content = torch.load(tmp_path / STATE, weights_only=True)
    torch.save({**content, "processes": content["processes"] * 2}, tmp_path / STATE)
    with pytest.raises(CheckpointError, match="made by 2 processes, now there are 1"):
        train(tmp_path)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="remove it to start anew"):
        train(tmp_path)


def test_a_checkpoint_must_hold_all_but_the_frozen_weights_and_no_other(tmp_path: Path) -> None:
    class Probe(Task):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    train(tmp_path, Probe())
    content = torch.load(tmp_path / STATE, weights_only=True)
    weights = content["objective"]
    assert sorted(weights) == ["layer.bias", "layer.weight"]
    train(tmp_path, Probe())
    strange = {
        "gone": {"layer.bias": weights["layer.bias"]},
        "more": {**weights, "frozen.bias": torch.ones(2)},
    }
    strange["size"] = {**weights, "layer.weight": torch.ones(1, 5)}
    for name, other in zip(("layer.weight", "frozen.bias", "layer.weight"), strange.values(), strict=True):
        torch.save({**content, "objective": other}, tmp_path / STATE)
        with pytest.raises(CheckpointError, match=f"does not fit in {name}; remove it to start anew"):
            train(tmp_path, Probe())


def test_a_full_disk_is_named_and_the_last_checkpoint_stays_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, (soft, hard) = torch.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(content: dict[str, Any], handle: Any) -> None:
        if content["step"] >= 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
        save(content, handle)

    monkeypatch.setattr(torch, "save", fill)
    try:
        with pytest.raises(RunError) as raised:
            train(tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    wanted = f"cannot write {tmp_path / 'full' / STATE}: File too large; make room"
    assert str(raised.value).startswith(wanted)
    assert torch.load(tmp_path / "full" / STATE, weights_only=True)["step"] == 4
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["metrics.jsonl", STATE]
    straight, _ = train(tmp_path / "straight")
    resumed, _ = train(tmp_path / "full")
    assert equal(straight, resumed)


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    large, _ = train(tmp_path / "large", Task(noise=False), size=6)
    settings = SETTINGS.model_copy(update={"accumulation": 2})
    small, _ = train(tmp_path / "small", Task(noise=False), settings, size=3)
    for name, tensor in large.state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    other, _ = train(tmp_path / "other", Task(noise=False), size=3)
    assert not torch.allclose(other.layer.weight, large.layer.weight, atol=1e-3)


def test_a_last_step_of_fewer_batches_weighs_its_batches_fully(tmp_path: Path) -> None:
    # Four batches make a step, and there is one.
    settings = SETTINGS.model_copy(update={"epochs": 1, "clip": 0.0})
    gradients: list[list[float]] = []
    for number in (1, 4):
        task = Task(noise=False)
        task.layer.weight.register_hook(lambda gradient: gradients.append(gradient[0].tolist()))
        asked = settings.model_copy(update={"accumulation": number})
        train(tmp_path / str(number), task, asked, size=4, rows=4)
    assert len(gradients) == 2
    assert gradients[1] == pytest.approx(gradients[0])


def test_schedules() -> None:
    settings = TrainSettings(warmup=0.2, schedule="cosine")
    assert [rate(step, 10, settings) for step in (0, 1, 2)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rate(6, 10, settings) == pytest.approx(0.5)
    assert rate(10, 10, settings) == pytest.approx(0.0)
    linear = settings.model_copy(update={"schedule": "linear"})
    assert [rate(step, 10, linear) for step in (2, 4, 10)] == pytest.approx([1.0, 0.75, 0.0])
    constant = settings.model_copy(update={"schedule": "constant"})
    assert [rate(step, 10, constant) for step in (0, 2, 9)] == pytest.approx([1 / 3, 1.0, 1.0])
    assert rate(0, 10, TrainSettings(warmup=0.0)) == 1.0


def test_the_rate_in_the_log_follows_the_schedule(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"schedule": "linear", "warmup": 0.0, "learning_rate": 0.08})
    _, history = train(tmp_path, settings=settings)
    assert [row["learning_rate"] for row in history] == pytest.approx(
        [0.08 * (1 - step / 16) for step in (3, 7, 11, 15)]
    )


def test_weights_decay_on_matrices_only(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"weight_decay": 0.9})
    plain, _ = train(tmp_path / "plain", Task(noise=False), SETTINGS.model_copy(update={"weight_decay": 0.0}))
    task = Task(noise=False)
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    task.layer.weight.register_hook(torch.zeros_like)
    task.layer.bias.register_hook(torch.zeros_like)
    train(tmp_path / "decayed", task, settings)
    assert torch.equal(task.layer.bias, before["layer.bias"])
    assert (task.layer.weight.abs() < before["layer.weight"].abs()).all()
    assert not torch.equal(plain.layer.bias, before["layer.bias"])


def test_losses_are_weighed_by_name_and_logged_as_they_are(tmp_path: Path) -> None:
    task = Task(noise=False)
    task.weights = {"error": 0.0, "size": 0.0}
    before = task.layer.bias.clone()
    _, history = train(tmp_path, task, SETTINGS.model_copy(update={"weight_decay": 0.0}))
    assert torch.equal(task.layer.bias, before)
    assert history[0]["error"] > 0.1
    assert history[0]["size"] == pytest.approx(float(task.layer.weight.detach().square().sum()))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_clear_error(tmp_path: Path, value: float) -> None:
    task = Task()
    task.layer.bias.data.fill_(value)
    with pytest.raises(ConfigError, match=r"not a number in epoch 1/4: .*lower train.learning_rate"):
        train(tmp_path, task)


@pytest.mark.parametrize("steps", [1, 2])
def test_no_checkpoint_holds_weights_that_are_no_numbers(tmp_path: Path, steps: int) -> None:
    settings = SETTINGS.model_copy(update={"checkpoint_steps": steps})
    task = Task(noise=False)
    task.fail_at = 6
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, task, settings)
    kept = (tmp_path / STATE).read_bytes()
    task = Task(noise=False)
    task.layer.weight.register_hook(lambda gradient: gradient * math.nan)  # its loss is one still
    with pytest.raises(ConfigError, match=r"not a number in epoch 2/4: .*lower train.learning_rate"):
        train(tmp_path, task, settings)
    assert (tmp_path / STATE).read_bytes() == kept


def test_memory_that_is_too_small_names_the_settings(tmp_path: Path) -> None:
    task = Task(noise=False)

    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    task.layer.register_forward_hook(short)
    with pytest.raises(
        ConfigError, match=r"batches of 32 utterances; lower train.batch_size, and raise train.acc"
    ):
        train(tmp_path, task)


def test_the_best_epoch_comes_back(tmp_path: Path) -> None:
    short = SETTINGS.model_copy(update={"epochs": 4})
    kept: list[dict[str, Tensor]] = []
    task = Task(noise=False)

    def score(epoch: int) -> float:
        assert not task.training
        kept.append({name: tensor.clone() for name, tensor in task.state_dict().items()})
        return [0.2, 0.6, 0.6, 0.5][epoch - 1]

    fit(task, Source(3), short, RunFolder(tmp_path), score)
    assert torch.equal(task.layer.weight, kept[1]["layer.weight"])  # of equals, the first
    assert not torch.equal(task.layer.weight, kept[3]["layer.weight"])


def test_without_scores_the_last_epoch_stays(tmp_path: Path) -> None:
    task = Task(noise=False)
    history = fit(task, Source(3), SETTINGS, RunFolder(tmp_path))
    assert [row["score"] for row in history] == [None] * 4
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert torch.equal(task.layer.weight, state["objective"]["layer.weight"])


def test_training_stops_when_patience_ends(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 8, "patience": 2})
    scores = [0.1, 0.4, 0.3, 0.35, 0.9, 0.9, 0.9, 0.9]
    _, history = train(tmp_path / "patient", settings=settings, scores=scores)
    assert [row["score"] for row in history] == [0.1, 0.4, 0.3, 0.35]
    task, again = train(tmp_path / "patient", settings=settings, scores=scores)
    assert len(again) == 4  # and stays stopped
    assert task.seen == []
    endless = settings.model_copy(update={"patience": 0})
    assert len(train(tmp_path / "endless", settings=endless, scores=scores)[1]) == 8


@pytest.fixture
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps one precision a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("_fresh_state")
def test_auto_takes_full_precision_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_accelerator(TrainSettings(precision="auto")).mixed_precision == "no"


@pytest.mark.usefixtures("_fresh_state")
def test_half_precision_on_a_processor(tmp_path: Path) -> None:
    kinds = []

    class Spy(Task):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            kinds.append(self.layer(batch.values).dtype)
            return super().forward(batch)

    settings = SETTINGS.model_copy(update={"precision": "bf16", "epochs": 8})
    _, history = train(tmp_path, Spy(noise=False), settings)
    assert set(kinds) == {torch.bfloat16}
    assert history[-1]["error"] < history[0]["error"]


@pytest.mark.usefixtures("_fresh_state")
def test_a_precision_that_the_device_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train.precision=fp16 cannot be used here"):
        make_accelerator(TrainSettings(precision="fp16"))


def test_processes_that_do_not_find_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    make_accelerator(SETTINGS)  # the state of this process is settled: it is alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started and 1 found each other"):
        make_accelerator(SETTINGS)


def test_seeds_cover_every_source_and_differ_by_process() -> None:
    def drawn(seed: int, process: int) -> tuple[float, float, float]:
        seed_everything(seed, process)
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    assert drawn(1, 0) == drawn(1, 0)
    for one, other in zip(drawn(1, 0), drawn(1, 1), strict=True):
        assert one != other
    for one, other in zip(drawn(1, 0), drawn(2, 0), strict=True):
        assert one != other


def test_networks_of_earlier_folds_are_let_go(tmp_path: Path) -> None:
    accelerator = make_accelerator(SETTINGS)
    fit(Task(), Source(3), SETTINGS, RunFolder(tmp_path), accelerator=accelerator)
    assert accelerator._models == []
    assert accelerator._optimizers == []


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="cannot write"):
        train(tmp_path / "file" / "below")
